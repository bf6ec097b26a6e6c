package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
)

func TestADeliverySaysWhenTheNextAttemptIsDue(t *testing.T) {
	t.Parallel()
	s := newSystemWith(t, webhook.Schedule{time.Hour})
	_, key := s.bot()
	id := s.subscribe(key, "")
	s.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	began := time.Now()
	event := s.emit(`{"event":"post.created","data":{}}`)
	var d detailView
	require.Eventually(t, func() bool {
		list := s.deliveries(key, id)
		if len(list) == 1 {
			d = s.detail(key, id, list[0].ID)
		}
		return d.NextAttempt != nil
	}, 20*time.Second, 50*time.Millisecond)
	require.Equal(t, 2, *d.NextAttempt)
	require.WithinDuration(t, began.Add(time.Hour), *d.NextAttemptAt, 15*time.Minute)
	require.Len(t, d.RequestHeaders, 8)

	s.answer(nil)
	require.NoError(t, s.temporal.SignalWorkflow(t.Context(), workflows.QueueWorkflowID(must(t, id)), "", workflows.RetryNowSignal, event.ID))
	require.Eventually(t, func() bool {
		after := s.detail(key, id, d.ID)
		require.Empty(t, after.NextAttemptNote)
		return after.NextAttempt == nil && after.NextAttemptAt == nil
	}, 20*time.Second, 50*time.Millisecond, "none after the end")
}
