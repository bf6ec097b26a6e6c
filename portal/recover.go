package portal

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

func (p *portal) recoverRoutes() {
	p.get("/portal/webhooks/{id}/recover", viewers, p.missed)
	p.post("/portal/webhooks/{id}/recover", managers, p.startRecovery)
	p.post("/portal/webhooks/{id}/recover/cancel", managers, p.cancelRecovery)
}

// recoverPage is what the page of missed events and recoveries shows.
type recoverPage struct {
	Webhook    hookName
	IsDisabled bool
	DisabledAt *time.Time

	// Span is what was counted, and Missed the count; nil: the form is at fault.
	Span   *history.Span
	Missed *missedView
	// Since, Until and Status are Span's in the form of fields.
	Since, Until, Status string
	Presets              []preset
	Types, Statuses      []string

	Running *recoveryView
	Earlier []recoveryView
}

// missedView is a count, with the first of what was missed.
type missedView struct {
	history.Missed
	Events []missedEvent
}

type missedEvent struct {
	db.ListMissedRow
	Made int32 // attempts
}

func viewOfMissed(m history.Missed) *missedView {
	v := &missedView{Missed: m}
	for _, e := range m.Events {
		v.Events = append(v.Events, missedEvent{e, e.Attempt - 1})
	}
	return v
}

// preset is a span to choose.
type preset struct {
	Name, Query string
	IsChosen    bool
}

// recoveryView is how a recovery has come.
type recoveryView struct {
	db.Recovery
	Remaining int64
	Done      int32
	Percent   int
	Rate      string
	Filter    string
	Class     string
}

var presets = []struct {
	name, value string
	span        time.Duration
}{
	{"Last hour", "1h", time.Hour}, {"24 hours", "24h", 24 * time.Hour}, {"7 days", "7d", 7 * 24 * time.Hour}, {"30 days", "30d", 30 * 24 * time.Hour},
}

// missed counts what a recovery would deliver. Nothing is sent before that is confirmed.
func (p *portal) missed(w http.ResponseWriter, r *http.Request, s *session) error {
	hook, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	return p.showMissed(w, r, s, hook, r.URL.Query(), nil)
}

// showMissed shows the page for a form's values, and what was wrong with starting that.
func (p *portal) showMissed(w http.ResponseWriter, r *http.Request, s *session, hook db.Webhook, values url.Values, failed error) error {
	data := recoverPage{
		Webhook: p.nameOf(hook), IsDisabled: !hook.IsActive, DisabledAt: hook.DisabledAt, Types: hook.Events, Statuses: history.StatusClasses,
		Presets: presetsOf(values),
	}
	shown := page{Title: "Missed events", Nav: "webhooks", Form: form{Values: values}}
	span, err := p.spanOf(r, hook, values)
	if failed == nil {
		failed = err
	}
	if failed != nil {
		f, status, ok := pages.FormOf(r, failed)
		if !ok {
			return failed
		}
		shown.Form.Errors, shown.Status = f.Errors, status
	}
	if err == nil {
		counted, err := p.Webhooks.Missed(r.Context(), hook, span)
		if err != nil {
			return err
		}
		data.Span, data.Missed = &span, viewOfMissed(counted)
		data.Since, data.Until, data.Status = webhook.FormatTime(span.Since), webhook.FormatTime(span.Until), history.StatusText(span.Status)
	}
	recoveries, err := p.Webhooks.Recoveries(r.Context(), hook)
	if err != nil {
		return err
	}
	for _, one := range recoveries {
		view := viewOfRecovery(one)
		if one.Recovery.State == history.RecoveryRunning {
			data.Running = &view
			continue
		}
		data.Earlier = append(data.Earlier, view)
	}
	shown.Data = data
	return p.show(w, r, s, "recover", shown)
}

// spanOf reads the span and what of it is wanted. A preset ends now.
func (p *portal) spanOf(r *http.Request, hook db.Webhook, values url.Values) (history.Span, error) {
	var faults problem.Faults
	eventType, failure := failureOf(values, &faults)
	since, until := timeOf(values, "since", &faults), timeOf(values, "until", &faults)
	for _, known := range presets {
		if values.Get("span") == known.value {
			from := time.Now().Add(-known.span)
			if from.Before(hook.CreatedAt) {
				from = hook.CreatedAt
			}
			if kept := p.Webhooks.Retention.Since(time.Now()); from.Before(kept) {
				from = kept
			}
			since, until = &from, nil
		}
	}
	span, err := p.Webhooks.Span(r.Context(), hook, since, until, &faults)
	span.EventType, span.Failure = eventType, failure
	return span, err
}

func (p *portal) startRecovery(w http.ResponseWriter, r *http.Request, s *session) error {
	hook, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	span, err := p.spanOf(r, hook, r.PostForm)
	if err == nil {
		_, err = p.Webhooks.Recover(r.Context(), hook, span)
	}
	if err != nil {
		return p.showMissed(w, r, s, hook, r.PostForm, err)
	}
	return done(w, r, webhookPath(hook)+"/recover", "recovery-started")
}

func (p *portal) cancelRecovery(w http.ResponseWriter, r *http.Request, s *session) error {
	hook, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	if err := p.Webhooks.CancelRecovery(r.Context(), hook); err != nil {
		return err
	}
	return done(w, r, webhookPath(hook)+"/recover", "recovery-cancelled")
}

func presetsOf(values url.Values) []preset {
	chosen := values.Get("span")
	custom := values.Get("since") != "" || values.Get("until") != ""
	kept := without(values, "span", "since", "until", "done")
	first := "Since it was disabled, or 24 hours"
	all := []preset{{first, "?" + kept.Encode(), chosen == "" && !custom}}
	for _, known := range presets {
		kept.Set("span", known.value)
		all = append(all, preset{known.name, "?" + kept.Encode(), chosen == known.value})
	}
	return all
}

func viewOfRecovery(row db.ListRecoveriesRow) recoveryView {
	r := row.Recovery
	v := recoveryView{Recovery: r, Remaining: row.Remaining, Done: r.Delivered + r.Failed, Class: "off"}
	if r.Found > 0 {
		v.Percent = int(100 * v.Done / r.Found)
	}
	end := time.Now()
	if r.EndedAt != nil {
		end = *r.EndedAt
	}
	if took := end.Sub(r.CreatedAt).Seconds(); took > 0 {
		v.Rate = fmt.Sprintf("%.1f", float64(v.Done)/took)
	}
	var parts []string
	for _, part := range []string{r.EventType, history.StatusText(int(r.StatusClass)), r.Error} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	v.Filter = strings.Join(parts, ", ")
	switch {
	case r.State == history.RecoveryRunning:
		v.Class = "info"
	case r.State == history.RecoveryCompleted && r.Failed == 0:
		v.Class = "ok"
	case r.State == history.RecoveryCompleted, r.State == history.RecoveryStopped:
		v.Class = "bad"
	}
	return v
}
