package workflows

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

func TestRemovalGoesOnStepByStepUntilDone(t *testing.T) {
	env := newEnv(t)
	start := time.Date(2026, 3, 20, 10, 0, 0, 0, time.UTC)
	env.SetStartTime(start)
	before := start.Add(-30*24*time.Hour - time.Hour) // an hour more than was promised
	place := history.Expired{AcceptedAt: before.Add(-time.Hour), EventID: "e9"}
	env.OnActivity(act.RemoveExpired, mock.Anything, history.RemovalInput{Before: before}).
		Return(history.Removal{After: place, Events: 100, Deliveries: 1000}, nil).Once()
	env.OnActivity(act.RemoveExpired, mock.Anything, history.RemovalInput{Before: before, After: place}).
		Return(history.Removal{}, errors.New("no database")).Once()
	env.OnActivity(act.RemoveExpired, mock.Anything, history.RemovalInput{Before: before, After: place}).
		Return(history.Removal{After: place, Events: 5, Deliveries: 7, Done: true}, nil).Once()
	env.ExecuteWorkflow(RemoveExpired, RemovalInput{Retention: webhook.DefaultRetention})
	require.NoError(t, env.GetWorkflowError())
	var removed Removed
	require.NoError(t, env.GetWorkflowResult(&removed))
	require.Equal(t, Removed{Before: before, Events: 105, Deliveries: 1007}, removed)
}

func TestALongRemovalGoesOnAsANewRun(t *testing.T) {
	env := newEnv(t)
	before := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	env.OnActivity(act.RemoveExpired, mock.Anything, mock.Anything).Return(history.Removal{After: history.Expired{EventID: "e1"}, Events: 2}, nil).Times(removalSteps)
	env.ExecuteWorkflow(RemoveExpired, RemovalInput{Retention: webhook.DefaultRetention, Before: before, Done: history.Removal{Events: 1}})
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var in RemovalInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &in))
	require.Equal(t, RemovalInput{
		Retention: webhook.DefaultRetention, Before: before, Done: history.Removal{After: history.Expired{EventID: "e1"}, Events: 1 + 2*removalSteps},
	}, in)
}

func TestARemovalByHandWithoutARetentionRemovesNothing(t *testing.T) {
	env := newEnv(t) // which knows of no call
	env.ExecuteWorkflow(RemoveExpired, RemovalInput{})
	var fault *temporal.ApplicationError
	require.ErrorAs(t, env.GetWorkflowError(), &fault)
	require.Equal(t, history.RetentionError, fault.Type())
	require.True(t, fault.NonRetryable())
}

// TestATimeGivenByHandRemovesNothingYoungerThanTheRetention: neither a slip of the year nor a clock that is ahead.
func TestATimeGivenByHandRemovesNothingYoungerThanTheRetention(t *testing.T) {
	for _, given := range []time.Duration{-29 * 24 * time.Hour, 0, 100 * 365 * 24 * time.Hour} {
		env := newEnv(t)
		start := time.Date(2026, 3, 20, 10, 0, 0, 0, time.UTC)
		env.SetStartTime(start)
		latest := start.Add(-30*24*time.Hour - time.Hour)
		env.OnActivity(act.RemoveExpired, mock.Anything, history.RemovalInput{Before: latest}).Return(history.Removal{Done: true}, nil).Once()
		env.ExecuteWorkflow(RemoveExpired, RemovalInput{Retention: webhook.DefaultRetention, Before: start.Add(given)})
		require.NoError(t, env.GetWorkflowError())
		var removed Removed
		require.NoError(t, env.GetWorkflowResult(&removed))
		require.Equal(t, latest, removed.Before)
	}
}
