package workflows

import (
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/delivery"
)

func TestANoticeIsAttemptedUntilTaken(t *testing.T) {
	env := newEnv(t)
	in := delivery.Notice{WebhookID: target().WebhookID, Generation: 2, BotID: "bot"}
	for i, r := range []delivery.Result{failedNotice(time.Hour), failedNotice(10 * time.Hour), delivered()} {
		env.OnActivity(act.NotifyOwner, mock.Anything, delivery.Notice{WebhookID: in.WebhookID, Generation: 2, BotID: "bot", Attempt: i + 1}).Return(r, nil).Once()
	}
	began := env.Now()
	env.RegisterDelayedCallback(func() {
		var status NoticeStatus
		answer, err := env.QueryWorkflow(StatusQuery)
		require.NoError(t, err)
		require.NoError(t, answer.Get(&status))
		require.Equal(t, 3, status.Attempt)
		require.Equal(t, "HTTP 500", status.LastError)
		require.NotNil(t, status.NextAttemptAt)
		env.SignalWorkflow(RetryNowSignal, nil)
	}, 2*time.Hour)
	env.ExecuteWorkflow(NotifyDisabled, in)
	require.NoError(t, env.GetWorkflowError())
	var r delivery.Result
	require.NoError(t, env.GetWorkflowResult(&r))
	require.Equal(t, delivered(), r)
	require.WithinDuration(t, began.Add(2*time.Hour), env.Now(), time.Minute)
}

func TestANoticeEndsWithTheSchedule(t *testing.T) {
	env := newEnv(t)
	env.OnActivity(act.NotifyOwner, mock.Anything, mock.Anything).Return(failedNotice(0), nil).Once()
	env.ExecuteWorkflow(NotifyDisabled, delivery.Notice{BotID: "bot"})
	require.NoError(t, env.GetWorkflowError())
}

func failedNotice(retryIn time.Duration) delivery.Result {
	return delivery.Result{Status: delivery.Failed, StatusCode: 500, Error: "HTTP 500", RetryIn: retryIn}
}
