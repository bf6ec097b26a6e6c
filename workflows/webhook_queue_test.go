package workflows

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
)

func rows(n int) (rows []history.Row) {
	for i := range n {
		rows = append(rows, history.Row{EventID: fmt.Sprintf("e%d", i+1), Attempt: 1, Step: 1, Trigger: webhook.TriggerEvent})
	}
	return rows
}

func queueEnv(t *testing.T) (*testsuite.TestWorkflowEnvironment, delivery.Target) {
	env, to := newEnv(t), target()
	require.NoError(t, env.SetTypedSearchAttributesOnStart(temporal.NewSearchAttributes(searchAttributesFor(to)...)))
	return env, to
}

// TestWebhookQueue_DoublesItsWindow, round by round, until nothing is left.
func TestWebhookQueue_DoublesItsWindow(t *testing.T) {
	env, to := queueEnv(t)
	left := rows(40)
	state := func(most int) history.QueueState {
		return history.QueueState{Active: true, Waiting: len(left), Due: left[:min(most, len(left))]}
	}
	env.OnActivity(act.LookAtQueue, mock.Anything, activities.LookInput{WebhookID: to.WebhookID, BotID: "bot", Most: 1}).Return(state(1), nil).Once()
	var sizes []int
	env.OnActivity(act.DeliverRound, mock.Anything, mock.Anything).Return(func(_ context.Context, r delivery.Round) (delivery.RoundResult, error) {
		require.Equal(t, left[:len(r.Rows)], r.Rows, "oldest first")
		sizes = append(sizes, len(r.Rows))
		left = left[len(r.Rows):]
		window := delivery.NextWindow(r.Window, len(r.Rows), 0)
		return delivery.RoundResult{Made: len(r.Rows), Window: window, State: state(window)}, nil
	})
	env.ExecuteWorkflow(WebhookQueue, QueueInput{Target: to})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []int{1, 2, 4, 8, 16, 9}, sizes)
	require.Contains(t, detailsOf(t, env), "**Empty**")
}

// TestWebhookQueue_AFailureIsFound, once, and once more as one that was given up; the pause is waited out in the activity that
// looks.
func TestWebhookQueue_AFailureIsFound(t *testing.T) {
	env, to := queueEnv(t)
	var outcomes []string
	for _, outcome := range []string{searchattr.Retrying, searchattr.GaveUp} {
		env.OnUpsertTypedSearchAttributes(temporal.NewSearchAttributes(
			searchattr.Failed.ValueSet(true), searchattr.Outcome.ValueSet(outcome),
			searchattr.WebhookID.ValueSet([]string{to.WebhookID.String()}), searchattr.BotID.ValueSet([]string{to.BotID}),
		)).Run(func(mock.Arguments) { outcomes = append(outcomes, outcome) }).Return(nil)
	}
	due := history.QueueState{Active: true, Waiting: 2, Due: rows(1), FailureCount: 1}
	paused := due
	paused.ResumeIn = 500 * time.Millisecond
	env.OnActivity(act.LookAtQueue, mock.Anything, mock.Anything).Return(due, nil).Times(5)
	env.OnActivity(act.DeliverRound, mock.Anything, mock.Anything).Return(delivery.RoundResult{Made: 1, Failed: 1, State: paused, Searchable: true}, nil).Twice()
	env.OnActivity(act.DeliverRound, mock.Anything, mock.Anything).Return(delivery.RoundResult{Made: 1, Failed: 1, GaveUp: 1, State: paused, Searchable: true}, nil).Twice()
	env.OnActivity(act.DeliverRound, mock.Anything, mock.Anything).Return(delivery.RoundResult{Made: 1, State: history.QueueState{Active: true}}, nil).Once()
	env.ExecuteWorkflow(WebhookQueue, QueueInput{Target: to})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []string{searchattr.Retrying, searchattr.GaveUp}, outcomes)
}

// TestWebhookQueue_SleepsUntilDue, or until a signal comes.
func TestWebhookQueue_SleepsUntilDue(t *testing.T) {
	for name, c := range map[string]struct {
		signal string
		input  any
		after  time.Duration
	}{
		"due":                {after: time.Hour},
		"woken":              {signal: WakeSignal, after: time.Minute},
		"retry now":          {signal: RetryNowSignal, after: time.Minute},
		"retry one now":      {signal: RetryNowSignal, input: "e1", after: time.Minute},
		"a busy bot's round": {after: time.Hour + 5*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			env, to := queueEnv(t)
			began := env.Now()
			waiting := history.QueueState{Active: true, Waiting: 1, NextIn: time.Hour}
			due := history.QueueState{Active: true, Waiting: 1, Due: rows(1)}
			env.OnActivity(act.LookAtQueue, mock.Anything, mock.Anything).Return(waiting, nil).Once()
			env.OnActivity(act.LookAtQueue, mock.Anything, mock.Anything).Return(due, nil)
			if c.signal == RetryNowSignal {
				event, _ := c.input.(string)
				env.OnActivity(act.HurryQueue, mock.Anything, activities.RetryNowInput{WebhookID: to.WebhookID, EventID: event}).Return(nil).Once()
			}
			if name == "a busy bot's round" {
				env.OnActivity(act.DeliverRound, mock.Anything, mock.Anything).Return(delivery.RoundResult{BusyFor: 5 * time.Second}, nil).Once()
			}
			env.OnActivity(act.DeliverRound, mock.Anything, mock.Anything).Return(delivery.RoundResult{Made: 1}, nil).Once()
			if c.signal != "" {
				env.RegisterDelayedCallback(func() {
					var status QueueStatus
					answer, err := env.QueryWorkflow(StatusQuery)
					require.NoError(t, err)
					require.NoError(t, answer.Get(&status))
					require.Equal(t, 1, status.Waiting)
					require.WithinDuration(t, began.Add(time.Hour), *status.NextAttemptAt, time.Second)
					env.SignalWorkflow(c.signal, c.input)
				}, time.Minute)
			}
			env.ExecuteWorkflow(WebhookQueue, QueueInput{Target: to})
			require.NoError(t, env.GetWorkflowError())
			require.WithinDuration(t, began.Add(c.after), env.Now(), time.Second)
		})
	}
}

// TestWebhookQueue_LooksAgainBeforeItEnds when a wake-up came in the meantime.
func TestWebhookQueue_LooksAgainBeforeItEnds(t *testing.T) {
	env, to := queueEnv(t)
	env.OnActivity(act.LookAtQueue, mock.Anything, mock.Anything).Return(history.QueueState{Active: true, Waiting: 1, Due: rows(1)}, nil).Once()
	env.OnActivity(act.DeliverRound, mock.Anything, mock.Anything).Return(func(context.Context, delivery.Round) (delivery.RoundResult, error) {
		env.SignalWorkflow(WakeSignal, nil)
		return delivery.RoundResult{Made: 1}, nil
	}).Once()
	env.OnActivity(act.LookAtQueue, mock.Anything, mock.Anything).Return(history.QueueState{Active: true}, nil).Once()
	env.ExecuteWorkflow(WebhookQueue, QueueInput{Target: to})
	require.NoError(t, env.GetWorkflowError())
}

// TestWebhookQueue_ContinuesAsNewThoughSignalled, in each round: the new run looks at the queue, and what was asked for is done before.
func TestWebhookQueue_ContinuesAsNewThoughSignalled(t *testing.T) {
	env, to := queueEnv(t)
	state := history.QueueState{Active: true, Waiting: 1, Due: rows(1)}
	rounds := 0
	var hurried []string
	env.OnActivity(act.LookAtQueue, mock.Anything, mock.Anything).Return(func(context.Context, activities.LookInput) (history.QueueState, error) {
		if rounds == queueRounds {
			env.SignalWorkflow(RetryNowSignal, "e2")
		}
		return state, nil
	})
	env.OnActivity(act.HurryQueue, mock.Anything, mock.Anything).Return(func(_ context.Context, in activities.RetryNowInput) error {
		hurried = append(hurried, in.EventID)
		return nil
	})
	env.OnActivity(act.DeliverRound, mock.Anything, mock.Anything).Return(func(context.Context, delivery.Round) (delivery.RoundResult, error) {
		if rounds++; rounds > queueRounds {
			return delivery.RoundResult{}, temporal.NewNonRetryableApplicationError("no new run", "", nil)
		}
		env.SignalWorkflow(WakeSignal, nil)
		if rounds == queueRounds {
			env.SignalWorkflow(RetryNowSignal, "e1")
		}
		return delivery.RoundResult{Made: 1, State: state}, nil
	})
	env.ExecuteWorkflow(WebhookQueue, QueueInput{Target: to})
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	require.Equal(t, []string{"e1", "e2"}, hurried)
}

// TestWebhookQueue_ContinuesAsNew with its window, after many rounds.
func TestWebhookQueue_ContinuesAsNew(t *testing.T) {
	env, to := queueEnv(t)
	state := history.QueueState{Active: true, Waiting: 1000, Due: rows(delivery.LargestWindow)}
	env.OnActivity(act.LookAtQueue, mock.Anything, mock.Anything).Return(state, nil).Once()
	env.OnActivity(act.DeliverRound, mock.Anything, mock.Anything).Return(delivery.RoundResult{Made: delivery.LargestWindow, Window: delivery.LargestWindow, State: state}, nil).Times(queueRounds)
	env.ExecuteWorkflow(WebhookQueue, QueueInput{Target: to})
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var in QueueInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &in))
	require.Equal(t, QueueInput{Target: to, Window: delivery.LargestWindow}, in)
}

// TestWebhookQueue_ContinuesAsNewAfterManySignals: each is looked into, and none of them makes a round.
func TestWebhookQueue_ContinuesAsNewAfterManySignals(t *testing.T) {
	env, to := queueEnv(t)
	env.OnActivity(act.LookAtQueue, mock.Anything, mock.Anything).Return(history.QueueState{Active: true, Waiting: 1, NextIn: time.Hour}, nil).Twice()
	env.RegisterDelayedCallback(func() {
		env.SetContinueAsNewSuggested(true) // as Temporal does of a history of some thousand events
		env.SignalWorkflow(WakeSignal, nil)
	}, time.Minute)
	env.ExecuteWorkflow(WebhookQueue, QueueInput{Target: to})
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
}

func TestRoundSummary(t *testing.T) {
	require.Equal(t, "e1 attempt 1", roundSummary(rows(1)))
	require.Equal(t, "e1 attempt 1, e2 attempt 1 and 3 more", roundSummary(rows(5)))
}

// TestRecover_GoesOnUntilItEnds, resting between its steps.
func TestRecover_GoesOnUntilItEnds(t *testing.T) {
	env, to := queueEnv(t)
	began := env.Now()
	env.OnActivity(act.RecoverPage, mock.Anything, to).Return(history.RecoveryStep{State: history.RecoveryRunning, Found: 900, Planned: true, Wait: 30 * time.Second}, nil).Once()
	env.OnActivity(act.RecoverPage, mock.Anything, to).Return(history.RecoveryStep{State: history.RecoveryCompleted, Found: 900, Delivered: 900, Ended: true}, nil).Once()
	env.ExecuteWorkflow(Recover, to)
	require.NoError(t, env.GetWorkflowError())
	require.WithinDuration(t, began.Add(30*time.Second), env.Now(), time.Second)
	require.Contains(t, detailsOf(t, env), "**completed**: of 900 missed events")
}

// TestRecover_CancelledEndsTheRecovery.
func TestRecover_CancelledEndsTheRecovery(t *testing.T) {
	env, to := queueEnv(t)
	env.OnActivity(act.RecoverPage, mock.Anything, to).Return(history.RecoveryStep{State: history.RecoveryRunning, Wait: time.Hour}, nil).Once()
	env.OnActivity(act.CancelRecovery, mock.Anything, to.WebhookID).Return(nil).Once()
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)
	env.ExecuteWorkflow(Recover, to)
	require.Error(t, env.GetWorkflowError())
}
