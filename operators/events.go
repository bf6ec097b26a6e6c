package operators

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

const (
	// eventWebhooksShown is how many webhooks of an event a page lists.
	eventWebhooksShown = 50
	// payloadShown is how much of a payload is shown, in bytes.
	payloadShown = 2048
)

func (s *site) eventsRoutes() {
	s.get("/ops/events", s.findEvent)
	s.get("/ops/events/{id}", s.oneEvent)
}

// findEvent asks for an event's id, and leads to the event.
func (s *site) findEvent(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	with := pages.Page{Title: "Events", Nav: "events", Narrow: true, Form: pages.Form{Values: query}}
	id := strings.TrimSpace(query.Get("id"))
	if id == "" {
		return s.show(w, r, "events", with)
	}
	if !webhook.ValidID(id) {
		return s.listed(w, r, "events", with, webhook.Invalid("id", "must be 1 to 128 of the characters A-Z a-z 0-9 _ -"))
	}
	http.Redirect(w, r, Root+"/events/"+url.PathEscape(id), http.StatusSeeOther)
	return nil
}

// eventPage is the page of an event.
type eventPage struct {
	db.GetEventRow
	Audience    db.CountEventWebhooksRow
	PayloadText string
	PayloadCut  bool
	URL         *string // of its workflow, in Temporal's Web UI
	Outcomes    []string
	List        listPage[eventHook]
}

// eventHook is what became of an event at a webhook.
type eventHook struct {
	db.ListEventWebhooksRow
	Host string
	Next *time.Time
}

// Badge is its outcome.
func (h eventHook) Badge() badge {
	switch h.Outcome {
	case "delivered":
		return badge{"ok", "Delivered"}
	case "failed":
		return badge{"bad", "Failed"}
	}
	return badge{"wait", "Waiting"}
}

var outcomes = []string{"delivered", "failed", "waiting"}

func (s *site) oneEvent(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if !webhook.ValidID(id) {
		return pages.ErrNoPage
	}
	event, err := s.History.Event(r.Context(), id)
	if problem.Is(err, problem.NotFound) {
		return &problem.Error{Kind: problem.NotFound, Detail: "The event does not exist, is no longer kept, or is accepted but not stored yet."}
	}
	if err != nil {
		return err
	}
	data := eventPage{GetEventRow: event, URL: s.Ops.UI.Workflow(event.WorkflowID, event.RunID), Outcomes: outcomes}
	payload := event.Payload[:min(len(event.Payload), payloadShown)]
	data.PayloadText, data.PayloadCut = strings.ToValidUTF8(string(payload), ""), len(payload) < len(event.Payload)
	if data.Audience, err = s.History.EventAudience(r.Context(), event.ID); err != nil {
		return err
	}
	query := r.URL.Query()
	filter := history.EventFilter{Limit: eventWebhooksShown}
	if outcome := query.Get("outcome"); slices.Contains(outcomes, outcome) {
		filter.Outcome = outcome
	}
	if after, err := web.ParseID(query.Get("after")); err == nil {
		filter.After = after
	}
	found, next, err := s.History.EventWebhooks(r.Context(), event.ID, filter)
	if err != nil {
		return err
	}
	rows := make([]eventHook, len(found))
	for i, row := range found {
		rows[i] = eventHook{ListEventWebhooksRow: row, Host: webhook.HostOf(row.Origin)}
		if row.IsPlanned {
			at := history.DueAt(row.DueAt, row.ResumeAt, time.Now())
			rows[i].Next = &at
		}
	}
	after := ""
	if next != nil {
		after = next.String()
	}
	data.List = pageOf(rows, query, after, "outcome")
	return s.show(w, r, "event", pages.Page{Title: "Event " + event.ID, Nav: "events", Data: data, Form: pages.Form{Values: query}})
}
