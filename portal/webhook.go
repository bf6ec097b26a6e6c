package portal

import (
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/webhook"
)

// recentShown is how many deliveries the page of a webhook shows.
const recentShown = 5

// waitingShown is how many waiting deliveries it shows.
const waitingShown = 10

func (p *portal) webhookRoutes() {
	p.get("/portal/webhooks/{id}", viewers, p.oneWebhook)
	p.get("/portal/webhooks/{id}/test", managers, p.testForm)
	p.send("/portal/webhooks/{id}/test", p.testWebhook)
	p.send("/portal/webhooks/{id}/verify", p.verifyWebhook)
	p.post("/portal/webhooks/{id}/enable", managers, p.enableWebhook)
	p.post("/portal/webhooks/{id}/disable", managers, p.disableWebhook)
	p.post("/portal/webhooks/{id}/retry-now", managers, p.retryNow)
	p.get("/portal/webhooks/{id}/delete", managers, p.deleteForm)
	p.post("/portal/webhooks/{id}/delete", managers, p.deleteWebhook)
}

// webhookPage is the page of a webhook.
type webhookPage struct {
	webhookView
	Charts *charts
	Recent []db.PageOfDeliveriesRow
	// Waits is what waits for it, the first waitingShown.
	Waits []history.WaitingDelivery
	// Missed is what it has missed while it is disabled; nil: it is not, or nobody knows since when.
	Missed *history.Missed
	// DisabledBy is the delivery whose failure disabled it; nil: it was not failures, or the delivery is not kept.
	DisabledBy *db.GetDeliveriesRow
	// MustVerify says that it gets no deliveries until its endpoint agrees.
	MustVerify bool
}

func webhookPath(w db.Webhook) string { return webhooksPath + "/" + w.ID.String() }

func deliveryPath(d db.GetDeliveriesRow) string {
	return webhooksPath + "/" + d.WebhookID.String() + "/deliveries/" + d.ID.String()
}

func (p *portal) oneWebhook(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	work, err := p.History.Work(r.Context(), []uuid.UUID{row.ID})
	if err != nil {
		return err
	}
	data := webhookPage{webhookView: p.viewWith(row, work[row.ID]), MustVerify: p.Webhooks.Verification == webhook.VerificationRequire}
	data.Recent, _, err = p.History.List(r.Context(), []uuid.UUID{row.ID}, history.Filter{Before: history.Newest, Limit: recentShown})
	if err != nil {
		return err
	}
	waits, err := p.Webhooks.Waiting(r.Context(), row)
	if err != nil {
		return err
	}
	data.Waits = waits[:min(waitingShown, len(waits))]
	if data.Charts, err = p.charts(r, row); err != nil {
		return err
	}
	if !row.IsActive {
		if data.Missed, err = p.missedSince(r, row); err != nil {
			return err
		}
	}
	if data.ByFailures() && row.DisabledBy.Valid {
		switch d, err := p.History.Delivery(r.Context(), row.ID, row.DisabledBy.UUID); {
		case err == nil:
			data.DisabledBy = &d
		case !problem.Is(err, problem.NotFound):
			return err
		}
	}
	return p.show(w, r, s, "webhook", page{Title: data.Title(), Nav: "webhooks", Data: data})
}

// charts draws what a webhook's deliveries came to in the span that is asked for.
func (p *portal) charts(r *http.Request, row db.Webhook) (*charts, error) {
	span := spanOf(r.URL.Query().Get("span"))
	query, err := span.query(time.Now())
	if err != nil {
		return nil, err
	}
	query.WebhookIDs = []uuid.UUID{row.ID}
	buckets, err := p.History.Buckets(r.Context(), query)
	if err != nil {
		return nil, err
	}
	return newCharts(span, buckets, prefix(r)+webhookPath(row)+"/deliveries"), nil
}

// testPage is the page that sends a test event.
type testPage struct {
	Webhook webhookView
	Events  []eventChoice
	Chosen  string
}

func (p *portal) testForm(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	return p.showTest(w, r, s, row, r.URL.Query().Get("type"), form{}, http.StatusOK)
}

func (p *portal) showTest(w http.ResponseWriter, r *http.Request, s *session, row db.Webhook, chosen string, f form, status int) error {
	data := testPage{Webhook: p.viewOf(row), Chosen: chosen, Events: append(testEvent(), eventChoices(nil)...)}
	if chosen == "" {
		data.Chosen = string(webhook.Test)
	}
	return p.show(w, r, s, "test", page{Title: "Test " + data.Webhook.Title(), Nav: "webhooks", Narrow: true, Data: data, Form: f, Status: status})
}

// testEvent is the event that is sent where no type is chosen.
func testEvent() (all []eventChoice) {
	for _, spec := range webhook.Catalog() {
		if spec.Type == webhook.Test {
			all = append(all, eventChoice{Type: string(spec.Type), Description: "Says that it is a test, and nothing else.", Sample: sampleOf(spec)})
		}
	}
	return all
}

func (p *portal) testWebhook(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	sent, err := p.Webhooks.SendTest(r.Context(), row, webhook.EventType(r.PostForm.Get("eventType")))
	if err != nil {
		f, status, ok := pages.FormOf(r, err)
		if !ok {
			return err
		}
		return p.showTest(w, r, s, row, r.PostForm.Get("eventType"), f, status)
	}
	return p.showSent(w, r, sent, "test-delivered", "test-failed")
}

// showSent leads to a delivery that was made for somebody who waits for it.
func (p *portal) showSent(w http.ResponseWriter, r *http.Request, d db.GetDeliveriesRow, delivered, failed string) error {
	if d.Success {
		return done(w, r, deliveryPath(d), delivered)
	}
	return done(w, r, deliveryPath(d), failed)
}

func (p *portal) verifyWebhook(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	sent, err := p.Webhooks.Verify(r.Context(), row)
	if err != nil {
		return err
	}
	return p.showSent(w, r, sent, "verified", "not-verified")
}

func (p *portal) enableWebhook(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.setActive(r, s, true)
	if err != nil {
		return err
	}
	if r.PostForm.Get("then") == "recover" {
		return done(w, r, webhookPath(row)+"/recover", "enabled")
	}
	return done(w, r, webhookPath(row), "enabled")
}

func (p *portal) disableWebhook(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.setActive(r, s, false)
	if err != nil {
		return err
	}
	return done(w, r, webhookPath(row), "paused")
}

func (p *portal) setActive(r *http.Request, s *session, active bool) (db.Webhook, error) {
	row, err := p.webhook(r, s)
	if err != nil {
		return row, err
	}
	row, _, err = p.Webhooks.Update(r.Context(), row, subscriptions.Input{IsActive: &active})
	return row, err
}

// retryNow has what waits for the webhook attempted now.
func (p *portal) retryNow(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	if _, err := p.Webhooks.RetryNow(r.Context(), row, ""); err != nil {
		return err
	}
	return done(w, r, webhookPath(row), "retried")
}

func (p *portal) deleteForm(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	return p.showDelete(w, r, s, row, form{}, http.StatusOK)
}

func (p *portal) showDelete(w http.ResponseWriter, r *http.Request, s *session, row db.Webhook, f form, status int) error {
	v := p.viewOf(row)
	return p.show(w, r, s, "delete", page{Title: "Delete " + v.Title(), Nav: "webhooks", Narrow: true, Data: v, Form: f, Status: status})
}

// deleteWebhook takes the webhook's host as the proof that this one is meant.
func (p *portal) deleteWebhook(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	if host := p.viewOf(row).Host(); !strings.EqualFold(strings.TrimSpace(r.PostForm.Get("host")), host) {
		f := form{Values: r.PostForm, Errors: map[string]string{"host": "must be " + host}}
		return p.showDelete(w, r, s, row, f, http.StatusUnprocessableEntity)
	}
	if err := p.Webhooks.Delete(r.Context(), row); err != nil {
		return err
	}
	return done(w, r, webhooksPath, "webhook-deleted")
}
