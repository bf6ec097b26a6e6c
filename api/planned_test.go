package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
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
	}, 3*time.Minute, 50*time.Millisecond)
	require.Equal(t, 2, *d.NextAttempt)
	require.WithinDuration(t, began.Add(time.Hour), *d.NextAttemptAt, 15*time.Minute)
	require.Len(t, d.RequestHeaders, 6)

	s.answer(nil)
	require.Eventually(t, func() bool { // the queue is woken a moment after the failure is recorded
		return s.temporal.SignalWorkflow(t.Context(), workflows.QueueWorkflowID(must(t, id)), "", workflows.RetryNowSignal, event.ID) == nil
	}, 3*time.Minute, 50*time.Millisecond)
	require.Eventually(t, func() bool {
		after := s.detail(key, id, d.ID)
		return after.NextAttempt == nil && after.NextAttemptAt == nil
	}, 3*time.Minute, 50*time.Millisecond, "none after the end")
}

// TestTheNextAttemptIsThatOfTheQueue: it needs no Temporal.
func TestTheNextAttemptIsThatOfTheQueue(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id, other := a.hook(key), a.hook(key)
	a.historyOf(id, 3) // "test" has none
	a.plan(id, "post.created", "retry")
	a.plan(other, "test", "retry")
	var list []mathub.Delivery
	a.do("GET", webhooksPath+"/"+id+"/deliveries", key, nil).into(t, &list)
	detail := func() detailView { return a.detail(key, id, list[0].ID) }
	d := detail()
	require.Equal(t, 2, *d.NextAttempt)
	require.WithinDuration(t, time.Now().Add(time.Hour), *d.NextAttemptAt, time.Minute)

	a.execute("UPDATE webhooks SET resume_at = now() + interval '3 hours' WHERE id = $1", id)
	require.WithinDuration(t, time.Now().Add(3*time.Hour), *detail().NextAttemptAt, time.Minute, "not before a failing webhook's pause is over")
	a.execute("UPDATE webhooks SET resume_at = now() - interval '3 hours' WHERE id = $1", id)
	require.WithinDuration(t, time.Now().Add(time.Hour), *detail().NextAttemptAt, time.Minute)

	a.execute("UPDATE webhooks SET is_active = false WHERE id = $1", id)
	d = detail()
	require.Nil(t, d.NextAttempt, "to a disabled webhook nothing is sent")
	require.Nil(t, d.NextAttemptAt)
	a.execute("UPDATE queue SET trigger = 'redeliver'")
	require.NotNil(t, detail().NextAttempt, "but what a person has asked for")

	a.execute("DELETE FROM queue WHERE webhook_id = $1", id)
	require.Nil(t, detail().NextAttempt)
}

// TestRetryNowIsAllOrNothing: an error never comes after a part of it was done.
func TestRetryNowIsAllOrNothing(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id := a.hook(key)
	a.historyOf(id, 1)
	a.plan(id, "post.created", "retry")
	a.execute("UPDATE webhooks SET resume_at = now() + interval '3 hours'")
	var due time.Time
	a.execute("ALTER TABLE audit_log RENAME TO gone")
	path := webhooksPath + "/" + id
	require.Equal(t, http.StatusInternalServerError, a.do("POST", path+"/retry-now", key, nil).status)
	require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT q.due_at FROM queue q JOIN webhooks w ON w.resume_at > now()").Scan(&due))
	require.WithinDuration(t, time.Now().Add(time.Hour), due, time.Minute)
	a.execute("ALTER TABLE gone RENAME TO audit_log")
	require.Equal(t, http.StatusAccepted, a.do("POST", path+"/retry-now", key, nil).status)
	require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT due_at FROM queue").Scan(&due))
	require.Zero(t, due.Unix())
}
