package portal

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

const (
	eventsPath  = "/portal/events"
	eventsShown = 25
)

func (p *portal) eventsRoutes() {
	p.get("/portal/events", viewers, p.events)
	p.get("/portal/events/{eventID}", viewers, p.event)
	p.get("/portal/webhooks/test", managers, p.testChosen)
}

// eventsPage is the log of a bot's events, or the catalog.
type eventsPage struct {
	Catalog  bool
	Specs    []catalogEntry
	Webhooks []webhookView
	Types    []eventChoice
	Type     string
	Log      []loggedEvent
	Next     string // where the next page begins; "": this is the last one
	First    bool
}

// catalogEntry is an event type with its fields.
type catalogEntry struct {
	eventChoice
	Fields []webhook.Field
}

// loggedEvent is an event and what became of it at the bot's webhooks.
type loggedEvent struct {
	db.PageOfBotEventsRow
	Taken []takenBy
}

// takenBy is what became of an event at a webhook.
type takenBy struct {
	db.EventsAtWebhooksRow
	Webhook webhookView
	Outcome badge
}

// events is the log, newest first, or with ?show=catalog the event types.
func (p *portal) events(w http.ResponseWriter, r *http.Request, s *session) error {
	hooks, err := p.webhooksOf(r, s)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	data := eventsPage{Catalog: q.Get("show") == "catalog", Webhooks: hooks, Types: eventChoices(nil), Type: q.Get("type"), First: !q.Has("before")}
	if data.Catalog {
		data.Specs = catalogEntries()
		return p.show(w, r, s, "events", page{Title: "Event types", Nav: "events", Data: data})
	}
	if data.Type != "" && !slices.Contains(typeNames(), data.Type) {
		return webhook.Invalid("type", "must be one of: "+strings.Join(typeNames(), ", "))
	}
	rows, next, err := p.History.BotEvents(r.Context(), history.BotEvents{BotID: s.BotID, Type: data.Type, Before: placeOf(q.Get("before")), Limit: eventsShown})
	if err != nil {
		return err
	}
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	taken, err := p.History.EventsAt(r.Context(), ids, idsOf(hooks))
	if err != nil {
		return err
	}
	for _, row := range rows {
		data.Log = append(data.Log, loggedEvent{row, takenByThem(taken[row.ID], hooks)})
	}
	if next != nil {
		data.Next = strconv.FormatInt(next.At.UnixMicro(), 10) + "." + next.ID
	}
	return p.show(w, r, s, "events", page{Title: "Events", Nav: "events", Data: data})
}

// placeOf reads a place of the log from a link of ours; what is no place is the newest.
func placeOf(text string) history.EventPlace {
	at, id, _ := strings.Cut(text, ".")
	micros, err := strconv.ParseInt(at, 10, 64)
	if err != nil || micros <= 0 || micros > time.Now().AddDate(1, 0, 0).UnixMicro() || !webhook.ValidID(id) {
		return history.EventPlace{}
	}
	return history.EventPlace{At: time.UnixMicro(micros), ID: id}
}

// webhooksOf are the bot's webhooks.
func (p *portal) webhooksOf(r *http.Request, s *session) ([]webhookView, error) {
	rows, _, err := p.Webhooks.List(r.Context(), s.BotID, uuid.Nil)
	views := make([]webhookView, len(rows))
	for i, row := range rows {
		views[i] = p.viewOf(row)
	}
	return views, err
}

func idsOf(hooks []webhookView) []uuid.UUID {
	ids := make([]uuid.UUID, len(hooks))
	for i, h := range hooks {
		ids[i] = h.ID
	}
	return ids
}

// takenByThem is what became of an event at those webhooks, in their order.
func takenByThem(rows []db.EventsAtWebhooksRow, hooks []webhookView) (all []takenBy) {
	for _, h := range hooks {
		for _, row := range rows {
			if row.WebhookID == h.ID {
				all = append(all, takenBy{row, h, outcomeAt(row, h)})
			}
		}
	}
	return all
}

func outcomeAt(row db.EventsAtWebhooksRow, h webhookView) badge {
	switch {
	case row.Delivered:
		return badge{"ok", "Delivered"}
	case row.DueAt != nil && h.IsActive:
		return badge{"wait", "Waiting"}
	}
	return badge{"bad", "Failed"}
}

func catalogEntries() (all []catalogEntry) {
	choices := eventChoices(nil)
	for _, spec := range webhook.Catalog() {
		for _, c := range choices {
			if c.Type == string(spec.Type) {
				all = append(all, catalogEntry{c, spec.Fields})
			}
		}
	}
	return all
}

// eventPage is the page of an event.
type eventPage struct {
	ID, Type   string
	AcceptedAt time.Time
	ToAll      bool
	Body       string
	Taken      []takenBy
	Others     []webhookView // the bot's webhooks that it was not sent to
}

func (p *portal) event(w http.ResponseWriter, r *http.Request, s *session) error {
	id := r.PathValue("eventID")
	if !webhook.ValidID(id) {
		return problem.ErrNotFound
	}
	hooks, err := p.webhooksOf(r, s)
	if err != nil {
		return err
	}
	event, rows, err := p.History.BotEvent(r.Context(), s.BotID, id, idsOf(hooks))
	if err != nil {
		return err
	}
	data := eventPage{
		ID: event.ID, Type: string(webhook.SentType(webhook.EventType(event.Type), event.Payload)), AcceptedAt: event.AcceptedAt,
		ToAll: event.BotIds == nil && event.Type != string(webhook.Test) && event.Type != string(webhook.Verify),
		Body:  viewOf(event.Payload, false).Text, Taken: takenByThem(rows, hooks),
	}
	for _, h := range hooks {
		if !slices.ContainsFunc(rows, func(row db.EventsAtWebhooksRow) bool { return row.WebhookID == h.ID }) {
			data.Others = append(data.Others, h)
		}
	}
	return p.show(w, r, s, "event", page{Title: data.Type, Nav: "events", Data: data})
}

// testChosen leads from the choice of a webhook, as the catalog's forms make it, to its test.
func (p *portal) testChosen(w http.ResponseWriter, r *http.Request, s *session) error {
	q := r.URL.Query()
	if !q.Has("webhook") {
		sendTo(w, r, eventsPath+"?show=catalog")
		return nil
	}
	id, err := web.ParseID(q.Get("webhook"))
	if err != nil {
		return err
	}
	row, err := p.Webhooks.Get(r.Context(), s.BotID, id)
	if err != nil {
		return err
	}
	sendTo(w, r, webhookPath(row)+"/test?type="+url.QueryEscape(q.Get("type")))
	return nil
}
