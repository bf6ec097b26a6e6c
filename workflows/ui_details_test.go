package workflows

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	sdkpb "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/searchattr"
)

func TestTheResultSaysWhoDidNotTakeIt(t *testing.T) {
	env := newEnv(t)
	const many = maxListed + 20
	var targets []delivery.Target
	for range many {
		targets = append(targets, target())
	}
	taken, retried, last, disabled, queued := targets[0], targets[1], targets[2], targets[3], targets[4]
	env.OnActivity(act.AcceptEvents, mock.Anything, mock.Anything).Return(audienceOf(0, targets...), nil).Once()
	env.OnActivity(act.DeliverGroup, mock.Anything, mock.Anything).Return(func(_ context.Context, g delivery.Group) (delivery.GroupResult, error) {
		var sum delivery.GroupResult
		for i, pair := range g.Deliveries {
			r := delivery.Result{Status: delivery.Skipped, Error: delivery.WebhookGone}
			switch pair.WebhookID {
			case taken.WebhookID:
				r = delivered()
			case retried.WebhookID:
				r = failed(true)
			case last.WebhookID:
				r = failed(false)
			case queued.WebhookID:
				r = delivery.Result{Status: delivery.Queued}
			case disabled.WebhookID:
				r = failed(false)
				r.NoRetryReason = delivery.WebhookDisabled
			}
			if sum.Add(r); r.Status != delivery.Delivered && len(sum.Ended) < 60 {
				sum.Ended = append(sum.Ended, delivery.Ended{Delivery: i, Result: r})
			}
		}
		return sum, nil
	}).Once()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	got := fullSummaryOf(t, env)
	require.Equal(t, many-1-maxListed, got.NotListed)
	require.Len(t, got.NotDelivered, maxListed)
	require.NotContains(t, got.NotDelivered, taken.WebhookID.String())
	require.Equal(t, "HTTP 500, retrying", got.NotDelivered[retried.WebhookID.String()])
	require.Equal(t, "failed: HTTP 500; no attempt is left", got.NotDelivered[last.WebhookID.String()])
	require.Equal(t, "failed: HTTP 500; webhook disabled", got.NotDelivered[disabled.WebhookID.String()])
	require.Equal(t, "waits in the webhook's queue", got.NotDelivered[queued.WebhookID.String()])
	require.Equal(t, "skipped: webhook deleted", got.NotDelivered[targets[5].WebhookID.String()])
	require.Equal(t, "70 webhooks: 1 delivered, 2 failed, 1 retrying, 1 queued, 65 skipped", got.String())
	encoded, err := json.Marshal(got)
	require.NoError(t, err)
	require.Less(t, len(encoded), 8<<10, "a result stays small")
}

func TestSummariesAreCounted(t *testing.T) {
	for want, s := range map[string]Summary{
		"64 deliveries: 60 delivered, 4 queued": {Events: 32, Webhooks: 64, Counts: delivery.Counts{Delivered: 60, Queued: 4}},
		"1 delivery: 1 in flight":               {Events: 1, Webhooks: 1},
		"0 webhooks":                            {},
		"1 webhook: 1 delivered":                {Webhooks: 1, Counts: delivery.Counts{Delivered: 1}},
		"12 webhooks: 11 delivered, 1 retrying": {Webhooks: 12, Counts: delivery.Counts{Delivered: 11, Retrying: 1}},
		"3 webhooks: 1 failed, 2 in flight":     {Webhooks: 3, Counts: delivery.Counts{Failed: 1}},
	} {
		require.Equal(t, want, s.String())
	}
}

// TestAttributesAreWrittenOnFailureOnly, but for the type of an event that was started without: an upsert is an event of the
// history and a write to Temporal's lists.
func TestAttributesAreWrittenOnFailureOnly(t *testing.T) {
	for name, c := range map[string]struct {
		searchable bool
		result     delivery.Result
		upserts    int
		bare       bool // started without
		outcome    string
	}{
		"delivered":                  {true, delivered(), 0, false, ""},
		"delivered, bare":            {true, delivered(), 1, true, ""},
		"skipped":                    {true, delivery.Result{Status: delivery.Skipped, Error: delivery.WebhookGone}, 0, false, ""},
		"queued":                     {true, delivery.Result{Status: delivery.Queued}, 0, false, ""},
		"failed":                     {true, failed(true), 1, false, "retrying"},
		"failed, bare":               {true, failed(true), 2, true, "retrying"},
		"given up":                   {true, failed(false), 1, false, "gave-up"},
		"failed, without attributes": {false, failed(false), 0, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			env := newEnv(t)
			to := target()
			env.OnActivity(act.AcceptEvents, mock.Anything, mock.Anything).Return(func(_ context.Context, in delivery.EventsToAccept) (delivery.Audience, error) {
				a := audienceOf(0, to)
				a.Searchable, a.Untyped = c.searchable, c.searchable && !in.Typed
				return a, nil
			})
			env.OnActivity(act.Deliver, mock.Anything, mock.Anything).Return(c.result, nil)
			upserts := 0
			want := temporal.NewSearchAttributes(
				searchattr.Failed.ValueSet(true), searchattr.Outcome.ValueSet(c.outcome), searchattr.EventType.ValueSet([]string{"post.created"}),
				searchattr.WebhookID.ValueSet([]string{to.WebhookID.String()}), searchattr.BotID.ValueSet([]string{"bot"}))
			ofType := temporal.NewSearchAttributes(searchattr.EventType.ValueSet([]string{"post.created"}))
			if !c.bare {
				require.NoError(t, env.SetTypedSearchAttributesOnStart(ofType))
			}
			env.OnUpsertTypedSearchAttributes(ofType).Run(func(mock.Arguments) { upserts++ }).Return(nil).Maybe()
			env.OnUpsertTypedSearchAttributes(want).Run(func(mock.Arguments) { upserts++ }).Return(nil).Maybe()
			env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
			require.NoError(t, env.GetWorkflowError())
			require.Equal(t, c.upserts, upserts)
		})
	}
}

func TestDetailsShowNothingAsMarkdownThatAStrangerChose(t *testing.T) {
	evil := "a`|b\n\n# [x](https://evil.example)"
	to := delivery.Target{WebhookID: uuid.Nil, BotID: evil, Host: evil}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, details := range map[string]string{
		"queue":    queueDetails(to, QueueStatus{Waiting: 3, NextAttemptAt: &at, LastError: evil}, delivery.QueueStep{Kind: delivery.AwaitTime}),
		"recovery": recoveryDetails(to, history.RecoveryStep{State: history.RecoveryRunning, LastError: evil}),
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, 3, strings.Count(details, "`a  b  # [x](https://evil.example)`"), "as code, on one line:\n%s", details)
			require.Equal(t, 3, strings.Count(details, "evil.example"))
		})
	}
	require.Equal(t, "[event-e1](/namespaces/a%20%29b/workflows/event-e1)", link("a )b", "event-e1", "event-e1"))
}

func TestAnEventsDetailsNameTheFirstInTrouble(t *testing.T) {
	env := newEnv(t)
	var targets []delivery.Target
	for range maxShown + 5 {
		targets = append(targets, target())
	}
	env.OnActivity(act.AcceptEvents, mock.Anything, mock.Anything).Return(audienceOf(0, targets...), nil).Once()
	env.OnActivity(act.DeliverGroup, mock.Anything, mock.Anything).Return(func(_ context.Context, g delivery.Group) (delivery.GroupResult, error) {
		var sum delivery.GroupResult
		for i := range g.Deliveries {
			sum.Add(failed(i == 0))
			sum.Ended = append(sum.Ended, delivery.Ended{Delivery: i, Result: failed(i == 0)})
		}
		return sum, nil
	})
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.NoError(t, env.GetWorkflowError())
	details := detailsOf(t, env)
	require.Contains(t, details, "post.created · post p1\n\n25 webhooks: 24 failed, 1 retrying\n")
	id := targets[0].WebhookID
	require.Contains(t, details, fmt.Sprintf("| [%s](/namespaces/default-test-namespace/workflows/webhook-%s) | `example.com` | `HTTP 500, retrying` |\n", id, id))
	require.Equal(t, maxShown, strings.Count(details, "`example.com`"))
	require.Contains(t, details, "and 5 more")
}

func detailsOf(t *testing.T, env *testsuite.TestWorkflowEnvironment) string {
	t.Helper()
	answer, err := env.QueryWorkflow("__temporal_workflow_metadata")
	require.NoError(t, err)
	var metadata sdkpb.WorkflowMetadata
	require.NoError(t, answer.Get(&metadata))
	return metadata.GetCurrentDetails()
}
