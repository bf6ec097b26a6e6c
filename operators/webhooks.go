package operators

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

// deliveriesShown is how many deliveries the page of a webhook shows.
const deliveriesShown = 20

func (s *site) webhooksRoutes() {
	s.get("/ops/webhooks", s.listWebhooks)
	s.get("/ops/webhooks/{id}", s.oneWebhook)
	s.post("/ops/webhooks/{id}/enable", s.enable)
	s.get("/ops/webhooks/{id}/disable", s.disableForm)
	s.post("/ops/webhooks/{id}/disable", s.disable)
	s.post("/ops/webhooks/{id}/retry-now", s.retryNow)
	s.get("/ops/webhooks/{id}/recover", s.recoverForm)
	s.post("/ops/webhooks/{id}/recover", s.recoverWebhook)
	s.get("/ops/webhooks/{id}/recover/cancel", s.cancelRecoveryForm)
	s.post("/ops/webhooks/{id}/recover/cancel", s.cancelRecovery)
	s.get("/ops/webhooks/{id}/delete", s.deleteWebhookForm)
	s.post("/ops/webhooks/{id}/delete", s.deleteWebhook)
}

func hookPath(id uuid.UUID) string { return Root + "/webhooks/" + id.String() }

// hookRow is a webhook in a list.
type hookRow struct{ ops.Webhook }

func hookRows(webhooks []ops.Webhook) []hookRow {
	rows := make([]hookRow, len(webhooks))
	for i, w := range webhooks {
		rows[i] = hookRow{w}
	}
	return rows
}

// Title is its name, or else its host. Of its URL, which may hold a token, there is no more.
func (h hookRow) Title() string {
	if h.Name != nil {
		return *h.Name
	}
	return h.Host
}

// Badge is its state.
func (h hookRow) Badge() badge {
	switch h.State {
	case ops.Disabled:
		if h.DisabledReason != nil && *h.DisabledReason == "failures" {
			return badge{"bad", "Disabled by failures"}
		}
		return badge{"off", "Disabled"}
	case ops.Suspended:
		return badge{"off", "Bot suspended"}
	case ops.Failing:
		return badge{"bad", fmt.Sprintf("Failing, %d in a row", h.FailureCount)}
	case ops.Queued:
		return badge{"wait", "Queued"}
	}
	return badge{"ok", "Active"}
}

// HostName is its host without a port, as pauses have it.
func (h hookRow) HostName() string { return webhook.Hostname(h.Host) }

// webhookFilters are the fields of the filter's form.
var webhookFilters = []string{"state", "disabledReason", "botId", "host", "errorClass", "sort"}

func (s *site) listWebhooks(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	field := func(name string) string { return strings.TrimSpace(query.Get(name)) }
	rows, next, err := s.Ops.ListWebhooks(r.Context(), ops.WebhookFilter{
		State: field("state"), DisabledReason: field("disabledReason"), BotID: field("botId"), Host: field("host"), ErrorClass: field("errorClass"),
		Sort: field("sort"), After: field("after"),
	})
	data := pageOf(hookRows(rows), query, next, webhookFilters...)
	data.States, data.Reasons, data.Classes, data.Sorts = ops.States, ops.DisabledReasons, egress.Classes, ops.Sorts
	return s.listed(w, r, "webhooks", pages.Page{Title: "Webhooks", Nav: "webhooks", Form: pages.Form{Values: query}, Data: data}, err)
}

// webhookPage is the page of a webhook.
type webhookPage struct {
	hookRow
	BotName    string
	Events     []string
	Filter     webhook.Filter // empty: it gets every event of these types
	Unverified bool
	Paused     *history.Pause            // that covers it; nil: none
	Waits      []history.WaitingDelivery // what waits for it, the first history.MostListed
	Ordered    bool
	Deliveries []db.PageOfDeliveriesRow
	EventID    string                // whose deliveries are listed; empty: of any
	Recovery   *db.LatestRecoveryRow // the last one; nil: there was none
	QueueURL   *string               // of its queue's workflow, in Temporal's Web UI
}

// Recovering says that a recovery runs.
func (p webhookPage) Recovering() bool {
	return p.Recovery != nil && p.Recovery.Recovery.EndedAt == nil
}

// find reads the webhook that a path names.
func (s *site) find(r *http.Request) (db.Webhook, error) {
	id, err := web.ParseID(r.PathValue("id"))
	if err != nil {
		return db.Webhook{}, err
	}
	return s.Webhooks.GetOfAny(r.Context(), id)
}

func (s *site) oneWebhook(w http.ResponseWriter, r *http.Request) error {
	row, err := s.find(r)
	if err != nil {
		return err
	}
	detail, err := s.Ops.Webhook(r.Context(), row)
	if err != nil {
		return err
	}
	data := webhookPage{hookRow: hookRow{detail}, Events: row.Events, Filter: subscriptions.FilterOf(row), Unverified: row.VerifiedAt == nil, Ordered: row.Ordered, EventID: r.URL.Query().Get("eventId")}
	bot, err := s.Bots.Get(r.Context(), row.BotID)
	if err != nil {
		return err
	}
	data.BotName = bot.Name
	paused, err := s.Webhooks.Pauses().Covering(r.Context(), []uuid.UUID{row.ID})
	if err != nil {
		return err
	}
	if p, is := paused[row.ID]; is {
		data.Paused = &p
	}
	if data.Waits, err = s.Webhooks.Waiting(r.Context(), row); err != nil {
		return err
	}
	data.Deliveries, _, err = s.History.List(r.Context(), []uuid.UUID{row.ID}, history.Filter{Before: history.Newest, Limit: deliveriesShown, EventID: webhook.CanonicalID(data.EventID)})
	if err != nil {
		return err
	}
	switch latest, err := s.Webhooks.LatestRecovery(r.Context(), row); {
	case err == nil:
		data.Recovery = &latest
	case !problem.Is(err, problem.NotFound):
		return err
	}
	data.QueueURL = s.Ops.UI.Workflow(workflows.QueueWorkflowID(row.ID), "")
	return s.show(w, r, "webhook", pages.Page{Title: data.Title(), Nav: "webhooks", Data: data})
}

func (s *site) enable(w http.ResponseWriter, r *http.Request) error {
	row, err := s.find(r)
	if err != nil {
		return err
	}
	if _, err := s.Webhooks.SetActive(r.Context(), row, true, nil); err != nil {
		return err
	}
	if r.PostForm.Get("then") == "recover" {
		return done(w, r, hookPath(row.ID)+"/recover", "enabled")
	}
	return done(w, r, hookPath(row.ID), "enabled")
}

func (s *site) retryNow(w http.ResponseWriter, r *http.Request) error {
	row, err := s.find(r)
	if err != nil {
		return err
	}
	if _, err := s.Webhooks.RetryNow(r.Context(), row, ""); err != nil {
		return err
	}
	return done(w, r, hookPath(row.ID), "retried")
}

// about is a confirmation of what is done with a webhook.
func about(row db.Webhook, action, button string, text ...string) confirmation {
	return confirmation{
		Back: hookPath(row.ID), BackText: webhook.HostOf(row.Origin), Action: hookPath(row.ID) + "/" + action, Button: button, Danger: true, Text: text,
	}
}

func disabling(row db.Webhook) (title string, c confirmation) {
	c = about(row, "disable", "Disable the webhook", "It gets nothing any more, and what waits for it is removed. Its owner can enable it.")
	c.Reason = &question{"disabledNote", "Note", "The webhook's owner reads it. Empty: there is none."}
	return "Disable the webhook at " + c.BackText + "?", c
}

func (s *site) disableForm(w http.ResponseWriter, r *http.Request) error {
	row, err := s.find(r)
	if err != nil {
		return err
	}
	title, c := disabling(row)
	return s.confirm(w, r, title, c)
}

func (s *site) disable(w http.ResponseWriter, r *http.Request) error {
	row, err := s.find(r)
	if err != nil {
		return err
	}
	if _, err := s.Webhooks.SetActive(r.Context(), row, false, orNil(r.PostForm.Get("disabledNote"))); err != nil {
		title, c := disabling(row)
		return s.confirmAgain(w, r, title, c, err)
	}
	return done(w, r, hookPath(row.ID), "disabled")
}

func (s *site) recovering(r *http.Request) (title string, c confirmation, row db.Webhook, span history.Span, err error) {
	if row, err = s.find(r); err != nil {
		return title, c, row, span, err
	}
	c = about(row, "recover", "Recover what it missed")
	c.Danger = false
	span, err = s.Webhooks.Span(r.Context(), row, nil, nil, &problem.Faults{})
	return "Recover what the webhook at " + c.BackText + " missed?", c, row, span, err
}

func (s *site) recoverForm(w http.ResponseWriter, r *http.Request) error {
	title, c, row, span, err := s.recovering(r)
	if err != nil {
		return err
	}
	missed, err := s.Webhooks.Missed(r.Context(), row, span)
	if err != nil {
		return err
	}
	least := ""
	if missed.More {
		least = "at least "
	}
	c.Text = []string{
		fmt.Sprintf("From %s to now it missed %s%d events, with those that failed.", webhook.FormatTime(span.Since), least, missed.Count),
		"They are delivered ten a second, the oldest first. New events arrive meanwhile.",
	}
	return s.confirm(w, r, title, c)
}

func (s *site) recoverWebhook(w http.ResponseWriter, r *http.Request) error {
	title, c, row, span, err := s.recovering(r)
	if err != nil {
		return err
	}
	if _, err := s.Webhooks.Recover(r.Context(), row, span); err != nil {
		return s.confirmAgain(w, r, title, c, err)
	}
	return done(w, r, hookPath(row.ID), "recovery-started")
}

func (s *site) cancelRecoveryForm(w http.ResponseWriter, r *http.Request) error {
	row, err := s.find(r)
	if err != nil {
		return err
	}
	return s.confirm(w, r, "Cancel the recovery?", about(row, "recover/cancel", "Cancel the recovery", "What it planned and did not send yet is removed. Another recovery can deliver it."))
}

func (s *site) cancelRecovery(w http.ResponseWriter, r *http.Request) error {
	row, err := s.find(r)
	if err != nil {
		return err
	}
	if err := s.Webhooks.CancelRecovery(r.Context(), row); err != nil {
		return err
	}
	return done(w, r, hookPath(row.ID), "recovery-ended")
}

func deletion(row db.Webhook) (title string, c confirmation) {
	c = about(row, "delete", "Delete the webhook", "It stops at once, and its history goes with it. This cannot be undone.")
	c.Type = c.BackText
	return "Delete the webhook at " + c.BackText + "?", c
}

func (s *site) deleteWebhookForm(w http.ResponseWriter, r *http.Request) error {
	row, err := s.find(r)
	if err != nil {
		return err
	}
	title, c := deletion(row)
	return s.confirm(w, r, title, c)
}

func (s *site) deleteWebhook(w http.ResponseWriter, r *http.Request) error {
	row, err := s.find(r)
	if err != nil {
		return err
	}
	title, c := deletion(row)
	if err := c.typed(r); err != nil {
		return s.confirmAgain(w, r, title, c, err)
	}
	if err := s.Webhooks.Delete(r.Context(), row); err != nil {
		return err
	}
	return done(w, r, Root+"/webhooks?botId="+url.QueryEscape(row.BotID), "webhook-deleted")
}
