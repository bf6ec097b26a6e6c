package portal

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

func (p *portal) deliveriesRoutes() {
	p.get("/portal/deliveries", viewers, p.allDeliveries)
	p.get("/portal/webhooks/{id}/deliveries", viewers, p.deliveriesOf)
	p.get("/portal/webhooks/{id}/deliveries/{deliveryID}", viewers, p.delivery)
	p.send("/portal/webhooks/{id}/deliveries/{deliveryID}/redeliver", p.redeliver)
	p.post("/portal/webhooks/{id}/deliveries/{deliveryID}/attempt-now", managers, p.attemptNow)
}

// deliveriesPage is what the list of deliveries shows.
type deliveriesPage struct {
	// Webhook is the one whose deliveries are listed; nil: those of all are.
	Webhook *hookName
	// Hooks are all of the bot's, for the choice of one.
	Hooks    []hookName
	Rows     []deliveryRow
	Filtered bool
	// Older leads to the next page, First to the first one; "": it is this.
	Older, First string
	// Redeliver leads to the recovery of what matches; "": nothing of it can be.
	Redeliver string

	Types, Triggers, Statuses []string
}

// hookName is what a webhook is called.
type hookName struct {
	ID   uuid.UUID
	Name string
}

func (p *portal) nameOf(w db.Webhook) hookName { return hookName{w.ID, p.viewOf(w).Title()} }

// deliveryRow is a delivery in a list.
type deliveryRow struct {
	ID, WebhookID uuid.UUID
	Hook          string
	At            time.Time
	Outcome       outcome
	EventType     string
	Status        string
	Ms            int
	Attempt       int
	Trigger       string
}

// outcome is how a delivery went: the class of its badge, and a word.
type outcome struct{ Class, Word string }

func outcomeOf(success bool, errorText *string) outcome {
	switch {
	case success:
		return outcome{"ok", "Delivered"}
	case errorText == nil:
		return outcome{"bad", "Failed"}
	}
	return outcome{"bad", *errorText}
}

func statusText(code *int32) string {
	if code == nil {
		return "–"
	}
	return strconv.Itoa(int(*code))
}

// allDeliveries lists the deliveries of all webhooks, or of the one that is chosen.
func (p *portal) allDeliveries(w http.ResponseWriter, r *http.Request, s *session) error {
	query := r.URL.Query()
	if chosen := query.Get("webhook"); chosen != "" {
		query.Del("webhook")
		sendTo(w, r, "/portal/webhooks/"+url.PathEscape(chosen)+"/deliveries?"+query.Encode())
		return nil
	}
	ids, err := p.Webhooks.IDs(r.Context(), s.BotID)
	if err != nil {
		return err
	}
	return p.listDeliveries(w, r, s, nil, ids)
}

// deliveriesOf lists a webhook's.
func (p *portal) deliveriesOf(w http.ResponseWriter, r *http.Request, s *session) error {
	hook, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	name := p.nameOf(hook)
	return p.listDeliveries(w, r, s, &name, []uuid.UUID{hook.ID})
}

func (p *portal) listDeliveries(w http.ResponseWriter, r *http.Request, s *session, hook *hookName, ids []uuid.UUID) error {
	query := r.URL.Query()
	query.Del("done")
	data := deliveriesPage{Webhook: hook, Types: typeNames(), Triggers: triggerNames(), Statuses: history.StatusClasses}
	hooks, _, err := p.Webhooks.List(r.Context(), s.BotID, uuid.Nil)
	if err != nil {
		return err
	}
	names := map[uuid.UUID]string{}
	for _, h := range hooks {
		name := p.nameOf(h)
		data.Hooks = append(data.Hooks, name)
		names[h.ID] = name.Name
	}
	shown := page{Title: "Deliveries", Nav: "deliveries", Form: form{Values: query}}
	filter, faults := filterOf(query)
	if before := query.Get("before"); before != "" && !faults.Any() {
		if filter.Before, err = p.History.ParsePlace(r.Context(), ids, before); err != nil {
			return err
		}
	}
	if faults.Any() {
		f, status, _ := pages.FormOf(r, faults.Err())
		shown.Form.Errors, shown.Status, shown.Data = f.Errors, status, data
		return p.show(w, r, s, "deliveries", shown)
	}
	rows, next, err := p.History.List(r.Context(), ids, filter)
	if err != nil {
		return err
	}
	seen := []any{next != 0}
	for _, d := range rows {
		seen = append(seen, d.ID)
		data.Rows = append(data.Rows, deliveryRow{
			ID: d.ID, WebhookID: d.WebhookID, Hook: names[d.WebhookID], At: d.AttemptedAt, Outcome: outcomeOf(d.Success, d.Error),
			EventType: d.EventType, Status: statusText(d.StatusCode), Ms: int(d.DurationMs), Attempt: int(d.Attempt), Trigger: string(d.Trigger),
		})
	}
	if p.unchanged(w, r, s, append(seen, names)...) {
		return nil
	}
	data.addLinks(query, hook, filter, next)
	shown.Data = data
	return p.show(w, r, s, "deliveries", shown)
}

// addLinks adds where the list leads: to other pages of it, and to a recovery of what matches.
func (d *deliveriesPage) addLinks(query url.Values, hook *hookName, f history.Filter, next int64) {
	if query.Get("before") != "" {
		d.First = "?" + without(query, "before").Encode()
	}
	if next != 0 {
		older := without(query, "before")
		older.Set("before", strconv.FormatInt(next, 10))
		d.Older = "?" + older.Encode()
	}
	for name, values := range query {
		d.Filtered = d.Filtered || name != "before" && slices.Contains(filterFields, name) && values[0] != ""
	}
	if hook == nil || f.Success != nil && *f.Success || f.EventID != "" || f.Trigger != "" || f.Status == 2 || len(d.Rows) == 0 {
		return
	}
	d.Redeliver = "/webhooks/" + hook.ID.String() + "/recover?" + without(query, "before", "outcome", "trigger").Encode()
}

func without(query url.Values, names ...string) url.Values {
	left := url.Values{}
	for name, values := range query {
		if !slices.Contains(names, name) && len(values) == 1 && values[0] != "" {
			left[name] = values
		}
	}
	return left
}

// filterFields are the fields of the filter's form.
var filterFields = []string{"outcome", "statusClass", "error", "eventType", "eventId", "trigger", "since", "until", "before"}

// filterOf reads the filter of a list. An empty field is none.
func filterOf(query url.Values) (f history.Filter, faults problem.Faults) {
	f = history.Filter{Before: history.Newest, Limit: webhook.MaxDeliveriesListed, Trigger: query.Get("trigger")}
	switch text := query.Get("outcome"); text {
	case "":
	case "delivered", "failed":
		delivered := text == "delivered"
		f.Success = &delivered
	default:
		faults.Add("outcome", "must be delivered or failed")
	}
	eventType, failure := failureOf(query, &faults)
	if f.Failure = failure; eventType != "" {
		f.EventType = &eventType
	}
	if f.Trigger != "" && !slices.Contains(triggerNames(), f.Trigger) {
		faults.Add("trigger", "must be one of: "+strings.Join(triggerNames(), ", "))
	}
	if text := strings.TrimSpace(query.Get("eventId")); text != "" {
		if !webhook.ValidID(text) {
			faults.Add("eventId", "must be 1 to 128 of the characters A-Z a-z 0-9 _ -")
		}
		f.EventID = webhook.CanonicalID(text)
	}
	if since := timeOf(query, "since", &faults); since != nil {
		f.Since = *since
	}
	if until := timeOf(query, "until", &faults); until != nil {
		f.Until = *until
	}
	return f, faults
}

// failureOf reads which events and failures are wanted: the part of a filter that a recovery has too.
func failureOf(query url.Values, faults *problem.Faults) (eventType string, f history.Failure) {
	if eventType = query.Get("eventType"); eventType != "" && !slices.Contains(typeNames(), eventType) {
		faults.Add("eventType", "must be one of: "+strings.Join(typeNames(), ", "))
	}
	if f.Error = strings.TrimSpace(query.Get("error")); !history.ValidError(f.Error) {
		faults.Add("error", fmt.Sprintf("must be an error of at most %d bytes, such as timeout or HTTP 503", history.MaxErrorLength))
	}
	if text := query.Get("statusClass"); text != "" {
		var ok bool
		if f.Status, ok = history.ParseStatus(text); !ok {
			faults.Add("statusClass", "must be one of: "+strings.Join(history.StatusClasses, ", "))
		}
	}
	return eventType, f
}

// timeOf reads a time: RFC 3339, or what a field of a date and a time sends, in UTC.
func timeOf(query url.Values, name string, faults *problem.Faults) *time.Time {
	text := query.Get(name)
	if text == "" {
		return nil
	}
	t, err := pages.ParseTime(text)
	if err != nil {
		faults.Add(name, "must be a time, such as 2025-03-20T10:30")
		return nil
	}
	return &t
}

// typeNames are the event types that a history can have.
func typeNames() (names []string) {
	for _, t := range webhook.Subscribable() {
		names = append(names, string(t))
	}
	return append(names, string(webhook.Test), string(webhook.Verify))
}

func triggerNames() (names []string) {
	for _, t := range webhook.Triggers() {
		names = append(names, string(t))
	}
	return names
}
