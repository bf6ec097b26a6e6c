package workflows

import (
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/webhook"
)

func TestANoticeIsAttemptedUntilTaken(t *testing.T) {
	env := newEnv(t)
	d := webhook.Disabling{WebhookID: target(false).WebhookID, Generation: 2, BotID: "bot", Host: "example.com"}
	for i, r := range []activities.Result{failed(time.Hour), failed(10 * time.Hour), delivered()} {
		env.OnActivity(act.NotifyOwner, mock.Anything, activities.Notice{Disabling: d, Attempt: i + 1}).Return(r, nil).Once()
	}
	began := env.Now()
	env.RegisterDelayedCallback(func() {
		var status RetryStatus
		answer, err := env.QueryWorkflow(StatusQuery)
		require.NoError(t, err)
		require.NoError(t, answer.Get(&status))
		require.Equal(t, 3, status.Attempt)
		require.Equal(t, "HTTP 500", status.LastError)
		require.NotNil(t, status.NextAttemptAt)
		env.SignalWorkflow(RetryNowSignal, nil)
	}, 2*time.Hour)
	env.ExecuteWorkflow(NotifyDisabled, d)
	require.NoError(t, env.GetWorkflowError())
	var r activities.Result
	require.NoError(t, env.GetWorkflowResult(&r))
	require.Equal(t, delivered(), r)
	require.WithinDuration(t, began.Add(2*time.Hour), env.Now(), time.Minute)
}

func TestANoticeEndsWithTheSchedule(t *testing.T) {
	env := newEnv(t)
	env.OnActivity(act.NotifyOwner, mock.Anything, mock.Anything).Return(failed(0), nil).Once()
	env.ExecuteWorkflow(NotifyDisabled, webhook.Disabling{BotID: "bot"})
	require.NoError(t, env.GetWorkflowError())
}
