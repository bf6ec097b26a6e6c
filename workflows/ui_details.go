package workflows

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
)

// What follows is for operators: details, which the Web UI renders as Markdown and asks a worker for when someone looks,
// and search attributes. Neither costs a delivery that succeeds at once any event of its history. In details stands
// nothing that a stranger chose, but for hosts and errors as code: a host has been checked, and an error is one of ours.

// targetLabel names a delivery in the UI: the host and the webhook's id. The UI renders it as Markdown, so it holds
// nothing that a stranger chose freely: a host has been checked.
func targetLabel(t delivery.Target) string { return t.Host + " " + t.WebhookID.String() }

// searchAttributesFor are those of a workflow that concerns one webhook.
func searchAttributesFor(t delivery.Target) []temporal.SearchAttributeUpdate {
	return []temporal.SearchAttributeUpdate{
		searchattr.WebhookID.ValueSet([]string{t.WebhookID.String()}), searchattr.BotID.ValueSet([]string{t.BotID}),
	}
}

//
// What a workflow does must not depend on the search attributes that it sees: Temporal shows them by the names that it knows
// at that moment, which may be others at a replay. So an activity says what is to be set, and its answer is in the history.

// upsertFailed lets a workflow be found as one that failed, and by the webhooks that attributes name.
func upsertFailed(ctx workflow.Context, attributes ...temporal.SearchAttributeUpdate) error {
	return workflow.UpsertTypedSearchAttributes(ctx, append(attributes, searchattr.Failed.ValueSet(true))...)
}

// outcomeOf is the outcome of deliveries that failed.
func outcomeOf(gaveUp bool) temporal.SearchAttributeUpdate {
	if gaveUp {
		return searchattr.Outcome.ValueSet(searchattr.GaveUp)
	}
	return searchattr.Outcome.ValueSet(searchattr.Retrying)
}

// isTyped says whether a workflow was started with its events' types. It is only to be asked for an activity's input.
func isTyped(ctx workflow.Context) bool {
	return workflow.GetTypedSearchAttributes(ctx).ContainsKey(searchattr.EventType)
}

// upsertFailed lets events' workflow be found by the webhooks whose first attempts failed.
func (f *fanOut) upsertFailed(ctx workflow.Context) error {
	if !f.searchable {
		return nil
	}
	webhooks, bots := make([]string, len(f.failed)), make([]string, len(f.failed))
	for i, u := range f.failed {
		webhooks[i], bots[i] = u.target.WebhookID.String(), u.target.BotID
	}
	return upsertFailed(ctx, outcomeOf(f.sum.Failed > 0),
		searchattr.EventType.ValueSet(searchattr.Types(f.events)),
		searchattr.WebhookID.ValueSet(searchattr.Fitting(webhooks)), searchattr.BotID.ValueSet(searchattr.Fitting(bots)),
	)
}

const (
	// maxListed is how many webhooks a result names, in some 5 KB.
	maxListed = 50
	// maxShown is how many of them the details show, as a table.
	maxShown = 20
	// detailsTime is how details show a time, which is to be in UTC.
	detailsTime = "2006-01-02 15:04:05 UTC"
)

// undelivered is a delivery that was not taken, and why.
type undelivered struct {
	first
	result delivery.Result
}

// recordUndelivered lists a delivery that was not taken.
func (f *fanOut) recordUndelivered(p first, r delivery.Result) {
	if r.Status == delivery.Failed {
		f.failed = append(f.failed, undelivered{p, r})
	}
	if len(f.sum.NotDelivered) == maxListed {
		f.sum.NotListed++
		return
	}
	if f.sum.NotDelivered == nil {
		f.sum.NotDelivered = map[string]string{}
	}
	key := p.target.WebhookID.String()
	if f.group {
		key = p.event.ID + " " + key
	}
	f.sum.NotDelivered[key] = explain(r)
	f.troubled = append(f.troubled, undelivered{p, r})
}

// explain says how an attempt ended that was no success.
func explain(r delivery.Result) string {
	switch {
	case r.Status == delivery.Skipped:
		return "skipped: " + r.Error
	case r.Status == delivery.Queued:
		return "waits in the webhook's queue"
	case r.Retrying:
		return r.Error + ", retrying"
	case r.NoRetryReason != "":
		return "failed: " + r.Error + "; " + r.NoRetryReason
	}
	return "failed: " + r.Error + "; no attempt is left"
}

// String counts an audience, such as "12 webhooks: 11 delivered, 1 retrying".
func (s Summary) String() string {
	var b strings.Builder
	what := "webhook"
	if s.Events > 0 {
		what = "delivery"
	}
	fmt.Fprintf(&b, "%s", plural(s.Webhooks, what))
	separator := ": "
	for _, part := range [...]struct {
		n    int
		what string
	}{
		{s.Delivered, "delivered"},
		{s.Failed, "failed"},
		{s.Retrying, "retrying"},
		{s.Queued, "queued"},
		{s.Skipped, "skipped"},
		{s.Webhooks - s.Total(), "in flight"},
	} {
		if part.n > 0 {
			fmt.Fprintf(&b, "%s%d %s", separator, part.n, part.what)
			separator = ", "
		}
	}
	return b.String()
}

func plural(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "y"):
		what = strings.TrimSuffix(what, "y") + "ie"
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// updateDetails sets the details of the workflow of one or several events, or of a batch.
func (f *fanOut) updateDetails(ctx workflow.Context) {
	var b strings.Builder
	b.WriteString(f.summary)
	b.WriteString("\n\n")
	switch {
	case f.sum.Duplicate:
		b.WriteString("A duplicate: the event was accepted before, and delivered by the workflow that did.")
	case f.sum.Batches > 0 && f.sum.Webhooks == 0:
	default:
		b.WriteString(f.sum.String())
	}
	if f.sum.Batches > 0 {
		fmt.Fprintf(&b, "\n\n%d batches, each a workflow of its own, %s and so on.", f.sum.Batches, code(f.firstBatch))
	}
	if len(f.sum.Conflicts) > 0 {
		fmt.Fprintf(&b, "\n\n**Accepted before with other content**, which is delivered: %s", code(strings.Join(f.sum.Conflicts, ", ")))
	}
	if len(f.sum.UnknownBots) > 0 {
		fmt.Fprintf(&b, "\n\n**No such bots**: %s", code(strings.Join(f.sum.UnknownBots, ", ")))
	}
	f.writeTroubled(&b, workflow.GetInfo(ctx).Namespace)
	if f.group {
		f.writeEvents(&b)
	}
	workflow.SetCurrentDetails(ctx, b.String())
}

// writeTroubled lists what was not taken, as a table.
func (f *fanOut) writeTroubled(b *strings.Builder, namespace string) {
	if len(f.troubled) > 0 {
		b.WriteString("\n\n| webhook | host | outcome |\n|---|---|---|\n")
	}
	for i, u := range f.troubled {
		if i == maxShown {
			fmt.Fprintf(b, "\nand %d more, see the result.", len(f.troubled)-maxShown+f.sum.NotListed)
			break
		}
		id := code(u.target.WebhookID.String())
		if u.result.Retrying || u.result.Status == delivery.Queued {
			id = link(namespace, QueueWorkflowID(u.target.WebhookID), u.target.WebhookID.String())
		}
		if f.group {
			id = code(u.event.ID) + " to " + id
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", id, code(u.target.Host), code(explain(u.result)))
	}
}

// writeEvents names the events of a group, each with what it is about.
func (f *fanOut) writeEvents(b *strings.Builder) {
	duplicate := make(map[string]bool, len(f.sum.Duplicates))
	for _, id := range f.sum.Duplicates {
		duplicate[id] = true
	}
	b.WriteString("\n\n| event | about |\n|---|---|\n")
	for _, e := range f.events {
		about := e.Summary()
		if duplicate[e.ID] {
			about += ", a duplicate"
		}
		fmt.Fprintf(b, "| %s | %s |\n", code(e.ID), about)
	}
}

// queueDetails are a WebhookQueue's: how many wait, what comes next, and whom it concerns.
func queueDetails(t delivery.Target, s QueueStatus, step delivery.QueueStep) string {
	var b strings.Builder
	switch {
	case step.Kind == delivery.AttemptRows:
		fmt.Fprintf(&b, "In progress: %s.", roundSummary(step.Rows))
	case step.Kind == delivery.EndQueue:
		b.WriteString("**Empty**: nothing waits.")
	case s.Paused != nil:
		fmt.Fprintf(&b, "**Paused** by %s since %s: %s. This covers %s. What waits is sent once it is over.",
			code(s.Paused.By), detailed(s.Paused.Since), code(s.Paused.Reason), code(s.Paused.Of()))
	case s.NextAttemptAt != nil:
		fmt.Fprintf(&b, "The next attempt is due at **%s**.", detailed(*s.NextAttemptAt))
	}
	waiting := "Waiting"
	if s.Paused != nil { // nobody wakes it for what comes in
		waiting = "Waiting when it last looked"
	}
	fmt.Fprintf(&b, "\n\n- %s: %s\n", waiting, counted(s.Waiting))
	if s.Disabled {
		fmt.Fprintf(&b, "- **Disabled**. Failures in a row: %d\n", s.FailureCount)
	} else {
		fmt.Fprintf(&b, "- Failures in a row: %d of %d\n", s.FailureCount, webhook.MaxFailures)
	}
	if s.LastError != "" {
		fmt.Fprintf(&b, "- Last error: %s\n", code(s.LastError))
	}
	b.WriteString(addressee(t))
	if step.Kind == delivery.AwaitTime && s.Paused == nil {
		fmt.Fprintf(&b, "\nTo attempt what waits at once, send this workflow the signal %s, without input.", code(RetryNowSignal))
	}
	return b.String()
}

func counted(n int) string {
	if n >= history.MostCounted {
		return fmt.Sprintf("%d or more", n)
	}
	return fmt.Sprint(n)
}

// addressee is a webhook as details name it.
func addressee(t delivery.Target) string {
	return fmt.Sprintf("- Webhook: %s at %s\n- Bot: %s\n", code(t.WebhookID.String()), code(t.Host), code(t.BotID))
}

// recoveryDetails are a Recover's.
func recoveryDetails(t delivery.Target, s history.RecoveryStep) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**: of %d missed events found so far, %d delivered, %d failed, %d remain.", s.State, s.Found, s.Delivered, s.Failed, s.Remaining)
	if s.LastError != "" {
		fmt.Fprintf(&b, "\n\nLast error: %s", code(s.LastError))
	}
	if s.State == history.RecoveryRunning {
		b.WriteString("\n\nTo end it, request its cancellation.")
	}
	b.WriteString("\n\n" + addressee(t))
	return b.String()
}

// incidentDetails are a RecoverIncident's.
func incidentDetails(id uuid.UUID, s history.IncidentStep) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**: of %s that failures disabled, %d enabled, %d skipped. Of the enabled, %d are being recovered, %d are recovered, %d failed.",
		s.State, plural(s.Found, "webhook"), s.Enabled, s.Skipped, s.Recovering, s.Recovered, s.Failed)
	if len(s.Reasons) > 0 {
		b.WriteString("\n\n| webhooks | became | reason |\n|---|---|---|\n")
	}
	for _, r := range s.Reasons {
		fmt.Fprintf(&b, "| %d | %s | %s |\n", r.Webhooks, r.State, code(r.Reason))
	}
	fmt.Fprintf(&b, "\n\n- Incident: %s\n", code(id.String()))
	switch s.State {
	case history.IncidentRunning:
		fmt.Fprintf(&b, "\nTo pause it, run %s. To end it, request its cancellation: what is enabled stays enabled.", code("mathub-webhooks ops incidents pause "+id.String()))
	case history.IncidentPaused:
		fmt.Fprintf(&b, "\nTo resume it, run %s.", code("mathub-webhooks ops incidents resume "+id.String()))
	}
	return b.String()
}

func detailed(t time.Time) string { return t.UTC().Format(detailsTime) }

// code is text that Markdown leaves as it is, also within a table.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + strings.Map(func(r rune) rune {
		if r == '`' || r == '|' || r < ' ' {
			return ' '
		}
		return r
	}, text) + "`"
}

// link leads to a workflow's latest run in the Web UI, which is to be at the root of its host.
func link(namespace, workflowID, text string) string {
	return fmt.Sprintf("[%s](/namespaces/%s/workflows/%s)", text, url.PathEscape(namespace), url.PathEscape(workflowID))
}
