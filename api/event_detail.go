package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

const (
	// maxEventWebhooks is how many webhooks of an event are listed at once.
	maxEventWebhooks = 100

	// mostReadForPage is how many rows a page reads that need not look for an outcome. A retry schedule makes eight attempts at
	// each webhook; what a person has sent more often may not be read to its end.
	mostReadForPage = 2000
)

// batchPath is where several events are emitted, and a valid id of an event.
const batchPath = "batch"

// outcomes are what may have become of an event at a webhook.
var outcomes = []string{"delivered", "failed", "waiting"}

// GetEvent serves GET /events/:id.
func (s *server) GetEvent(c *gin.Context, id EventID, _ GetEventParams) {
	s.answer(c, func() (reply, error) {
		page, query, err := readEventPage(c, id)
		if err != nil {
			return reply{}, err
		}
		event, err := s.storedEvent(c, id)
		if err != nil {
			return reply{}, err
		}
		id, page.EventID = event.ID, event.ID
		detail, err := s.toEventDetail(event)
		if err != nil {
			return reply{}, err
		}
		if detail.Audience, err = s.eventAudience(c, id); err != nil {
			return reply{}, err
		}
		found, err := s.queries.ListEventWebhooks(c, s.cfg.Pool, page)
		if err != nil {
			return reply{}, err
		}
		var last *uuid.UUID
		if detail.Webhooks, last = turnEventPage(found, int(page.Most)-1); last != nil {
			query.Set("after", last.String())
			s.linkNext(c, query)
		}
		return ok(detail), nil
	})
}

// readEventPage reads which of the event's webhooks are asked for: Most is one more than that, which tells whether there is
// a next page. query is what was asked, for the link to it.
// storedEvent finds an event by its id, or by a UUID in upper case under which none is stored.
func (s *server) storedEvent(c *gin.Context, id string) (db.GetEventRow, error) {
	event, err := s.queries.GetEvent(c, s.cfg.Pool, id)
	if canonical := webhook.CanonicalID(id); canonical != id && errors.Is(err, pgx.ErrNoRows) {
		event, err = s.queries.GetEvent(c, s.cfg.Pool, canonical)
	}
	switch none := errors.Is(err, pgx.ErrNoRows); {
	case none && id == batchPath:
		err = notAllowed(c, http.MethodPost)
	case none:
		err = &problem.Error{Kind: problem.NotFound, Detail: "The event is not known, or it was accepted within the last moments and is not stored yet."}
	}
	return event, err
}

func readEventPage(c *gin.Context, id string) (page db.ListEventWebhooksParams, query url.Values, err error) {
	q, err := readQuery(c, "outcome", "after", "limit")
	if err != nil {
		return page, nil, err
	}
	if !webhook.ValidID(id) {
		q.Add("id", "must be 1 to 128 of the characters A-Z a-z 0-9 _ -")
	}
	limit := q.integer("limit", 1, maxEventWebhooks, maxEventWebhooks)
	page = db.ListEventWebhooksParams{EventID: id, Most: int32(limit + 1), MostRead: mostReadForPage}
	if text, given := q.text("outcome"); given {
		if !slices.Contains(outcomes, text) {
			q.Add("outcome", "must be delivered, failed or waiting")
		}
		page.Outcome, page.MostRead = text, webhook.MaxDeliveriesRead
	}
	if text, given := q.text("after"); given {
		if page.After, err = parseID(text); err != nil {
			q.Add("after", "must be the id of a webhook")
		}
	}
	return page, q.values, q.Err()
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
		Workflow: EventWorkflow{ID: e.WorkflowID, RunID: e.RunID, URL: s.workflowURL(e.WorkflowID, e.RunID)},
	}
	if e.BotIds != nil {
		detail.BotIds = &e.BotIds
	}
	return detail, nil
}

// workflowURL is a run's page in Temporal's Web UI; nil where it is not known where that is.
func (s *server) workflowURL(workflowID, runID string) *string {
	if s.cfg.TemporalUI == "" {
		return nil
	}
	page := fmt.Sprintf("%s/namespaces/%s/workflows/%s/%s", strings.TrimRight(s.cfg.TemporalUI, "/"),
		url.PathEscape(s.cfg.Namespace), url.PathEscape(workflowID), url.PathEscape(runID))
	return &page
}

func (s *server) eventAudience(ctx context.Context, eventID string) (EventAudience, error) {
	n, err := s.queries.CountEventWebhooks(ctx, s.cfg.Pool, db.CountEventWebhooksParams{EventID: eventID, MostRead: webhook.MaxDeliveriesRead})
	return EventAudience{
		Webhooks:  int(n.Delivered + n.Failed + n.Waiting),
		Delivered: int(n.Delivered), Failed: int(n.Failed), Waiting: int(n.Waiting), More: n.IsCut,
	}, err
}

// turnEventPage returns what is to be shown of what was found, and where the next page begins: after the last one shown, or
// after the last one looked at; nil: there is none.
func turnEventPage(found []db.ListEventWebhooksRow, most int) (shown []EventWebhook, last *uuid.UUID) {
	if len(found) > most {
		found, last = found[:most], &found[most-1].WebhookID
	} else if n := len(found); n > 0 && found[n-1].IsLast {
		last = &found[n-1].WebhookID
	}
	shown = make([]EventWebhook, 0, len(found))
	for _, w := range found {
		if w.IsWanted {
			shown = append(shown, toEventWebhook(w))
		}
	}
	return shown, last
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
		at := dueAt(w.DueAt, w.ResumeAt, time.Now())
		view.NextAttemptAt = (*timestamp)(&at)
	}
	return view
}
