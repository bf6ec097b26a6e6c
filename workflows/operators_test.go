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

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/visibility"
)

func TestTheResultSaysWhoDidNotTakeIt(t *testing.T) {
	env := newEnv(t)
	const many = maxListed + 20
	var targets []activities.Target
	for range many {
		targets = append(targets, target(false))
	}
	taken, retried, last, disabled := targets[0], targets[1], targets[2], targets[3]
	env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{Targets: targets}, nil).Once()
	env.OnActivity(act.DeliverGroup, mock.Anything, mock.Anything).Return(func(_ context.Context, g activities.Group) (activities.GroupResult, error) {
		ended := map[uuid.UUID]activities.Result{}
		for _, id := range g.WebhookIDs {
			ended[id] = activities.Result{Status: activities.Skipped, Error: activities.WebhookGone}
		}
		delete(ended, taken.WebhookID)
		ended[retried.WebhookID], ended[last.WebhookID], ended[disabled.WebhookID] = failed(time.Minute), failed(0), failed(0)
		r := ended[disabled.WebhookID]
		r.Final = activities.WebhookDisabled
		ended[disabled.WebhookID] = r
		return activities.GroupResult{Delivered: 1, Ended: ended}, nil
	}).Once()
	env.OnWorkflow(RetryDelivery, mock.Anything, mock.Anything).Return(delivered(), nil).Once()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	got := fullSummaryOf(t, env)
	require.Equal(t, many-1-maxListed, got.NotListed)
	require.Len(t, got.NotDelivered, maxListed)
	require.NotContains(t, got.NotDelivered, taken.WebhookID.String())
	require.Equal(t, "HTTP 500, retrying, in retry-e1-"+retried.WebhookID.String(), got.NotDelivered[retried.WebhookID.String()])
	require.Equal(t, "failed: HTTP 500; no attempt is left", got.NotDelivered[last.WebhookID.String()])
	require.Equal(t, "failed: HTTP 500; webhook disabled", got.NotDelivered[disabled.WebhookID.String()])
	require.Equal(t, "skipped: webhook deleted", got.NotDelivered[targets[4].WebhookID.String()])
	require.Equal(t, "70 webhooks: 1 delivered, 2 failed, 1 retrying, 66 skipped", got.String())
	encoded, err := json.Marshal(got)
	require.NoError(t, err)
	require.Less(t, len(encoded), 8<<10, "a result stays small")
}

func TestSummariesAreCounted(t *testing.T) {
	for want, s := range map[string]Summary{
		"0 webhooks":                            {},
		"1 webhook: 1 delivered":                {Webhooks: 1, Delivered: 1},
		"12 webhooks: 11 delivered, 1 retrying": {Webhooks: 12, Delivered: 11, Retrying: 1},
		"3 webhooks: 1 failed, 2 under way":     {Webhooks: 3, Failed: 1},
	} {
		require.Equal(t, want, s.String())
	}
}

// TestAttributesAreWrittenOnFailureOnly: an upsert is an event of the history and a write to Temporal's lists.
func TestAttributesAreWrittenOnFailureOnly(t *testing.T) {
	for name, c := range map[string]struct {
		searchable bool
		result     activities.Result
		upserts    int
	}{
		"delivered":                           {true, delivered(), 0},
		"retried, where its retry is found":   {true, failed(time.Minute), 0},
		"skipped":                             {true, activities.Result{Status: activities.Skipped, Error: activities.WebhookGone}, 0},
		"failed for good":                     {true, failed(0), 1},
		"failed for good, without attributes": {false, failed(0), 0},
	} {
		t.Run(name, func(t *testing.T) {
			env := newEnv(t)
			to := target(false)
			env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{Targets: []activities.Target{to}, Searchable: c.searchable}, nil)
			env.OnActivity(act.Deliver, mock.Anything, mock.Anything).Return(c.result, nil)
			env.OnWorkflow(RetryDelivery, mock.Anything, mock.Anything).Return(delivered(), nil).Maybe()
			upserts := 0
			want := temporal.NewSearchAttributes(
				visibility.Failed.ValueSet(true), visibility.EventType.ValueSet("post.created"),
				visibility.WebhookID.ValueSet([]string{to.WebhookID.String()}), visibility.BotID.ValueSet([]string{"bot"}))
			env.OnUpsertTypedSearchAttributes(want).Run(func(mock.Arguments) { upserts++ }).Return(nil).Maybe()
			env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
			require.NoError(t, env.GetWorkflowError())
			require.Equal(t, c.upserts, upserts)
		})
	}
}

func TestARecoveryIsFoundAsFailedOnce(t *testing.T) {
	for _, started := range []bool{true, false} {
		env := newEnv(t)
		to := target(true)
		if started {
			require.NoError(t, env.SetTypedSearchAttributesOnStart(temporal.NewSearchAttributes(concerning(to)...)))
		}
		env.OnActivity(act.ListMissed, mock.Anything, mock.Anything).Return(missedEvents(3), nil).Once()
		env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(failed(time.Hour), nil)
		upserts := 0
		env.OnUpsertTypedSearchAttributes(mock.Anything).Run(func(mock.Arguments) { upserts++ }).Return(nil).Maybe()
		env.ExecuteWorkflow(Recover, RecoverInput{Target: to, Progress: Progress{Found: 3, Remaining: 3}})
		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, started, upserts == 1)
	}
}

func TestDetailsShowNothingAsMarkdownThatAStrangerChose(t *testing.T) {
	evil := "a`|b\n\n# [x](https://evil.example)"
	in := RetryInput{EventID: "e1", EventType: "post.created", Target: activities.Target{WebhookID: uuid.Nil, BotID: evil, Host: evil}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, details := range map[string]string{
		"retry":    retryDetails("default", in, "Attempt 3 is due.", RetryStatus{Attempt: 3, NextAttemptAt: &at, LastError: evil}),
		"recovery": recoveryDetails(RecoverInput{Target: in.Target}, Progress{State: RecoveryRunning, LastError: evil}),
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
	var targets []activities.Target
	for range maxShown + 5 {
		targets = append(targets, target(true))
	}
	env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{Targets: targets}, nil).Once()
	env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(func(_ context.Context, d activities.SlowDelivery) (activities.Result, error) {
		if d.WebhookID == targets[0].WebhookID {
			return failed(time.Minute), nil
		}
		return failed(0), nil
	})
	env.OnWorkflow(RetryDelivery, mock.Anything, mock.Anything).Return(delivered(), nil).Once()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.NoError(t, env.GetWorkflowError())
	details := detailsOf(t, env)
	require.Contains(t, details, "post.created · post p1\n\n25 webhooks: 24 failed, 1 retrying\n")
	id := targets[0].WebhookID
	require.Contains(t, details, fmt.Sprintf("| [%s](/namespaces/default-test-namespace/workflows/retry-e1-%s) | `example.com` | `HTTP 500, retrying` |\n", id, id))
	require.Equal(t, maxShown, strings.Count(details, "`example.com`"))
	require.Contains(t, details, "and 5 more")
}

func TestARetrysDetailsSayHowItEnded(t *testing.T) {
	disabled := failed(0)
	disabled.Final = activities.WebhookDisabled
	for want, last := range map[string]activities.Result{
		"**Delivered** at attempt 2.\n\nLast error: `timeout`":                        delivered(),
		"**Given up** after attempt 2: no attempt is left.\n\nLast error: `HTTP 500`": failed(0),
		"**Given up** after attempt 2: webhook disabled.\n\nLast error: `HTTP 500`":   disabled,
		"**Ended** before attempt 2: webhook deleted.\n\nLast error: `timeout`":       {Status: activities.Skipped, Error: activities.WebhookGone},
	} {
		env := newEnv(t)
		env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(last, nil).Once()
		env.ExecuteWorkflow(RetryDelivery, RetryInput{EventID: "e1", Target: target(true), Attempt: 2, DelayMs: 1000, LastError: "timeout"})
		require.NoError(t, env.GetWorkflowError())
		require.Contains(t, detailsOf(t, env), want)
	}
}

// TestAWaitThatEndsInAFailureIsFoundAsOne: nothing had failed when it was started.
func TestAWaitThatEndsInAFailureIsFoundAsOne(t *testing.T) {
	for lastError, upserts := range map[string]int{"": 1, "timeout": 0} {
		env := newEnv(t)
		to := target(true)
		require.NoError(t, env.SetTypedSearchAttributesOnStart(temporal.NewSearchAttributes(concerning(to)...)))
		env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(failed(time.Minute), nil).Once()
		env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(failed(0), nil).Once()
		got := 0
		env.OnUpsertTypedSearchAttributes(temporal.NewSearchAttributes(visibility.Failed.ValueSet(true))).Run(func(mock.Arguments) { got++ }).Return(nil).Maybe()
		env.ExecuteWorkflow(RetryDelivery, RetryInput{EventID: "e1", Target: to, Attempt: 1, DelayMs: 1000, LastError: lastError})
		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, upserts, got)
	}
}

func detailsOf(t *testing.T, env *testsuite.TestWorkflowEnvironment) string {
	t.Helper()
	answer, err := env.QueryWorkflow("__temporal_workflow_metadata")
	require.NoError(t, err)
	var metadata sdkpb.WorkflowMetadata
	require.NoError(t, answer.Get(&metadata))
	return metadata.GetCurrentDetails()
}
