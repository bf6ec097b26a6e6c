package workflows

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/internal/history"
)

func TestRemovalGoesOnStepByStepUntilDone(t *testing.T) {
	env := newEnv(t)
	before := time.Date(2026, 2, 18, 9, 0, 0, 0, time.UTC)
	place := history.Expired{AcceptedAt: before.Add(-time.Hour), EventID: "e9"}
	env.OnActivity(act.RemoveExpired, mock.Anything, history.Removal{}).
		Return(history.Removal{Before: before, After: place, Events: 100, Deliveries: 1000}, nil).Once()
	env.OnActivity(act.RemoveExpired, mock.Anything, history.Removal{Before: before, After: place, Events: 100, Deliveries: 1000}).
		Return(history.Removal{}, errors.New("no database")).Once()
	env.OnActivity(act.RemoveExpired, mock.Anything, history.Removal{Before: before, After: place, Events: 100, Deliveries: 1000}).
		Return(history.Removal{Before: before, After: place, Events: 105, Deliveries: 1007, Done: true}, nil).Once()
	env.ExecuteWorkflow(RemoveExpired, history.Removal{})
	require.NoError(t, env.GetWorkflowError())
	var removed history.Removal
	require.NoError(t, env.GetWorkflowResult(&removed))
	require.Equal(t, history.Removal{Before: before, After: place, Events: 105, Deliveries: 1007, Done: true}, removed)
}

func TestALongRemovalGoesOnAsANewRun(t *testing.T) {
	env := newEnv(t)
	before := time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
	env.OnActivity(act.RemoveExpired, mock.Anything, mock.Anything).Return(history.Removal{Before: before, After: history.Expired{EventID: "e1"}, Events: 2}, nil).Times(removalSteps)
	env.ExecuteWorkflow(RemoveExpired, history.Removal{Before: before, Events: 1})
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var in history.Removal
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &in))
	require.Equal(t, history.Removal{Before: before, After: history.Expired{EventID: "e1"}, Events: 2}, in)
}
