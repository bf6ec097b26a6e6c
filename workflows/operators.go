package workflows

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/visibility"
)

// What follows is for operators: details, which the Web UI renders as Markdown and asks a worker for when someone looks,
// and search attributes. Neither costs a delivery that succeeds at once any event of its history. In details stands
// nothing that a stranger chose, but for hosts and errors as code: a host has been checked, and an error is one of ours.

// concerning are the search attributes of a workflow that concerns one webhook.
func concerning(t activities.Target) []temporal.SearchAttributeUpdate {
	return []temporal.SearchAttributeUpdate{
		visibility.WebhookID.ValueSet([]string{t.WebhookID.String()}), visibility.BotID.ValueSet([]string{t.BotID}),
	}
}

// upsertFailed lets a workflow that was started with search attributes be found as one that failed. Without them
// Temporal might not know them, and would refuse the workflow's step for ever.
func upsertFailed(ctx workflow.Context) error {
	if !workflow.GetTypedSearchAttributes(ctx).ContainsKey(visibility.WebhookID) {
		return nil
	}
	return workflow.UpsertTypedSearchAttributes(ctx, visibility.Failed.ValueSet(true))
}

// upsertLost lets an event's own workflow be found by the webhooks whose deliveries failed for good: no other says so.
func (f *fan) upsertLost(ctx workflow.Context) error {
	if !f.searchable {
		return nil
	}
	webhooks, bots := make([]string, len(f.lost)), make([]string, len(f.lost))
	for i, t := range f.lost {
		webhooks[i], bots[i] = t.WebhookID.String(), t.BotID
	}
	updates := []temporal.SearchAttributeUpdate{
		visibility.Failed.ValueSet(true),
		visibility.WebhookID.ValueSet(visibility.Fitting(webhooks)), visibility.BotID.ValueSet(visibility.Fitting(bots)),
	}
	if f.about.eventType != "" {
		updates = append(updates, visibility.EventType.ValueSet(string(f.about.eventType)))
	}
	return workflow.UpsertTypedSearchAttributes(ctx, updates...)
}

const (
	// maxListed is how many webhooks a result names, in some 5 KB.
	maxListed = 50
	// maxShown is how many of them the details show, as a table.
	maxShown = 20
	// detailsTime is how details show a time, which is to be in UTC.
	detailsTime = "2006-01-02 15:04:05 UTC"
)

// trouble is a target that has not taken the event, and why.
type trouble struct {
	target activities.Target
	how    string
}

func (f *fan) note(t activities.Target, how string) {
	if len(f.troubled) == maxListed {
		f.sum.NotListed++
		return
	}
	if f.sum.NotDelivered == nil {
		f.sum.NotDelivered = map[string]string{}
	}
	f.sum.NotDelivered[t.WebhookID.String()] = how
	f.troubled = append(f.troubled, trouble{t, how})
}

// failure says why a delivery that gets no further attempt failed.
func failure(r activities.Result) string {
	if r.Final != "" {
		return "failed: " + r.Error + "; " + r.Final
	}
	return "failed: " + r.Error + "; no attempt is left"
}

// String counts an audience, such as "12 webhooks: 11 delivered, 1 retrying".
func (s Summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d webhook", s.Webhooks)
	if s.Webhooks != 1 {
		b.WriteByte('s')
	}
	separator := ": "
	for _, part := range [...]struct {
		n    int
		what string
	}{
		{s.Delivered, "delivered"},
		{s.Failed, "failed"},
		{s.Retrying, "retrying"},
		{s.Skipped, "skipped"},
		{s.Webhooks - s.Delivered - s.Failed - s.Retrying - s.Skipped, "under way"},
	} {
		if part.n > 0 {
			fmt.Fprintf(&b, "%s%d %s", separator, part.n, part.what)
			separator = ", "
		}
	}
	return b.String()
}

// show sets the details of an event's workflow, or a batch's.
func (f *fan) show(ctx workflow.Context) {
	var b strings.Builder
	b.WriteString(f.about.summary)
	b.WriteString("\n\n")
	if f.sum.Batches > 0 {
		fmt.Fprintf(&b, "%d batches, each a workflow of its own, `%s-batch-1` and so on.\n\n", f.sum.Batches, emit.WorkflowID(f.sum.EventID))
	}
	if f.sum.Webhooks > 0 || f.sum.Batches == 0 {
		b.WriteString(f.sum.String())
	}
	if f.crowded > 0 {
		fmt.Fprintf(&b, "\n\nBots that have too much under way, and get their part as they have room: %d.", f.crowded)
	}
	if len(f.troubled) > 0 {
		b.WriteString("\n\n| webhook | host | outcome |\n|---|---|---|\n")
	}
	for i, t := range f.troubled {
		if i == maxShown {
			fmt.Fprintf(&b, "\nand %d more, see the result.", len(f.troubled)-maxShown+f.sum.NotListed)
			break
		}
		webhookID := code(t.target.WebhookID.String())
		retry := RetryWorkflowID(f.sum.EventID, t.target.WebhookID)
		how, retried := strings.CutSuffix(t.how, ", in "+retry)
		if retried {
			webhookID = link(workflow.GetInfo(ctx).Namespace, retry, t.target.WebhookID.String())
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", webhookID, code(t.target.Host), code(how))
	}
	workflow.SetCurrentDetails(ctx, b.String())
}

// retryDetails are a RetryDelivery's: how it stands, and whom it concerns.
func retryDetails(namespace string, in RetryInput, how string, s RetryStatus) string {
	var b strings.Builder
	b.WriteString(how)
	if s.LastError != "" {
		fmt.Fprintf(&b, "\n\nLast error: %s", code(s.LastError))
	}
	if s.NextAttemptAt != nil {
		fmt.Fprintf(&b, "\n\nTo attempt it at once, send this workflow the signal %s, without input.", code(RetryNowSignal))
	}
	id := emit.WorkflowID(in.EventID)
	fmt.Fprintf(&b, "\n\n- Event: %s %s\n", link(namespace, id, id), code(string(in.EventType)))
	b.WriteString(addressee(in.Target))
	return b.String()
}

// addressee is a webhook as details name it.
func addressee(t activities.Target) string {
	return fmt.Sprintf("- Webhook: %s at %s\n- Bot: %s\n", code(t.WebhookID.String()), code(t.Host), code(t.BotID))
}

// ended says how a RetryDelivery ended.
func ended(attempt int, r activities.Result) string {
	switch r.Status {
	case activities.Delivered:
		return fmt.Sprintf("**Delivered** at attempt %d.", attempt)
	case activities.Failed:
		return fmt.Sprintf("**Given up** after attempt %d: %s.", attempt, strings.TrimPrefix(failure(activities.Result{Final: r.Final}), "failed: ; "))
	case activities.Skipped, activities.Deferred:
	}
	return fmt.Sprintf("**Ended** before attempt %d: %s.", attempt, r.Error)
}

// recoveryDetails are a Recover's.
func recoveryDetails(in RecoverInput, p Progress) string {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s**: of %d missed events, %d delivered, %d failed, %d remain.", p.State, p.Found, p.Delivered, p.Failed, p.Remaining)
	if p.LastError != "" {
		fmt.Fprintf(&b, "\n\nLast error: %s", code(p.LastError))
	}
	if p.State == RecoveryRunning {
		b.WriteString("\n\nTo end it after the delivery under way, request its cancellation.")
	}
	fmt.Fprintf(&b, "\n\n- Events accepted from %s to %s\n", detailed(in.Span.Since), detailed(in.Span.Until))
	b.WriteString(addressee(in.Target))
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
