package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

// maxEventWebhooks is how many webhooks of an event are listed at once.
const maxEventWebhooks = 100

// batchPath is where several events are emitted, and a valid id of an event.
const batchPath = "batch"

// outcomes are what may have become of an event at a webhook.
var outcomes = []string{"delivered", "failed", "waiting"}

// GetEvent serves GET /events/:id.
func (s *server) GetEvent(c *gin.Context, id EventID, _ GetEventParams) {
	s.answer(c, func() (reply, error) {
		filter, query, err := readEventFilter(c, id)
		if err != nil {
			return reply{}, err
		}
		event, err := s.storedEvent(c, id)
		if err != nil {
			return reply{}, err
		}
		detail, err := s.toEventDetail(event)
		if err != nil {
			return reply{}, err
		}
		if detail.Audience, err = s.eventAudience(c, event.ID); err != nil {
			return reply{}, err
		}
		found, next, err := s.history.EventWebhooks(c, event.ID, filter)
		if err != nil {
			return reply{}, err
		}
		detail.Webhooks = make([]EventWebhook, len(found))
		for i, w := range found {
			detail.Webhooks[i] = toEventWebhook(w)
		}
		if next != nil {
			query.Set("after", next.String())
			s.linkNext(c, query)
		}
		return ok(detail), nil
	})
}

// storedEvent finds an event by its id.
func (s *server) storedEvent(c *gin.Context, id string) (db.GetEventRow, error) {
	event, err := s.history.Event(c, id)
	switch none := problem.Is(err, problem.NotFound); {
	case none && id == batchPath:
		err = notAllowed(c, http.MethodPost)
	case none:
		err = &problem.Error{Kind: problem.NotFound, Detail: "The event does not exist, is no longer kept, or is accepted but not stored yet."}
	}
	return event, err
}

// readEventFilter reads which of the event's webhooks are asked for. query is what was asked, for the link to the next page.
func readEventFilter(c *gin.Context, id string) (f history.EventFilter, query url.Values, err error) {
	q, err := readQuery(c, "outcome", "after", "limit")
	if err != nil {
		return f, nil, err
	}
	if !webhook.ValidID(id) {
		q.Add("id", "must be 1 to 128 of the characters A-Z a-z 0-9 _ -")
	}
	f.Limit = q.integer("limit", maxEventWebhooks, maxEventWebhooks)
	if text, given := q.text("outcome"); given {
		if !slices.Contains(outcomes, text) {
			q.Add("outcome", "must be delivered, failed or waiting")
		}
		f.Outcome = text
	}
	if text, given := q.text("after"); given {
		if f.After, err = web.ParseID(text); err != nil {
			q.Add("after", "must be the id of a webhook")
		}
	}
	return f, q.values, q.Err()
}

func (s *server) toEventDetail(e db.GetEventRow) (EventDetail, error) {
	var sent struct {
		Timestamp string `json:"timestamp"`
	}
	if err := json.Unmarshal(e.Payload, &sent); err != nil {
		return EventDetail{}, fmt.Errorf("payload of event %s: %w", e.ID, err)
	}
	detail := EventDetail{
		ID: e.ID, EventType: e.Type, Timestamp: sent.Timestamp, AcceptedAt: timestamp(e.AcceptedAt), PayloadBytes: len(e.Payload), Payload: e.Payload,
		Workflow: EventWorkflow{ID: e.WorkflowID, RunID: e.RunID, URL: s.ops.UI.Workflow(e.WorkflowID, e.RunID)},
	}
	if e.BotIds != nil {
		detail.BotIds = &e.BotIds
	}
	return detail, nil
}

func (s *server) eventAudience(ctx context.Context, eventID string) (EventAudience, error) {
	n, err := s.history.EventAudience(ctx, eventID)
	return EventAudience{
		Webhooks:  int(n.Delivered + n.Failed + n.Waiting),
		Delivered: int(n.Delivered), Failed: int(n.Failed), Waiting: int(n.Waiting), More: n.IsCut,
	}, err
}

func toEventWebhook(w db.ListEventWebhooksRow) EventWebhook {
	view := EventWebhook{
		WebhookID: w.WebhookID, BotID: w.BotID, Host: webhook.HostOf(w.Origin), IsActive: w.IsActive, Outcome: w.Outcome,
		Attempts: int(w.Attempts), LastError: w.Error,
	}
	if w.Attempts > 0 {
		view.LastAttemptAt = (*timestamp)(&w.AttemptedAt)
	}
	if w.StatusCode != nil {
		code := int(*w.StatusCode)
		view.LastStatusCode = &code
	}
	if w.IsPlanned {
		at := history.DueAt(w.DueAt, w.ResumeAt, time.Now())
		view.NextAttemptAt = (*timestamp)(&at)
	}
	return view
}
