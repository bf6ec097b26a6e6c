package delivery

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestDeliverer_PrepareRedelivery(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	for name, c := range map[string]struct {
		set    string
		queued bool
	}{
		"Direct":   {"queued = false", false},
		"Queued":   {"queued = true", true},
		"Failing":  {"queued = true, failure_count = 3, failure_run = 1", true},
		"Disabled": {"is_active = false, disabled_at = now()", true},
	} {
		t.Run(name, func(t *testing.T) {
			id := r.subscribe(t, to.url, "")
			r.set(t, id, c.set)
			e := r.storedElsewhere(t)
			r.sentBefore(t, id, e.ID, 2)
			r.plan(t, id, "waits longer", webhook.TriggerEvent, -time.Hour)
			r.taken()
			a := Attempt{EventID: e.ID, WebhookID: id, Number: 3, Trigger: webhook.TriggerRedeliver}
			for range 2 { // repeated after a crash
				route, err := r.PrepareRedelivery(t.Context(), a)
				require.NoError(t, err)
				require.Equal(t, Route{Attempt: a, Queued: c.queued}, route)
			}
			rows := r.planned(t, id)
			if !c.queued {
				require.Len(t, rows, 1)
				require.Empty(t, r.taken())
				return
			}
			require.Len(t, rows, 2)
			require.Equal(t, []any{e.ID, 3, 0, webhook.TriggerRedeliver}, []any{rows[0].EventID, rows[0].Attempt, rows[0].Step, rows[0].Trigger}, "it goes before all else")
			require.Contains(t, r.taken(), id, "a person waits")
			require.Equal(t, 1, r.round(t, Round{WebhookID: id, BotID: "bot", Rows: rowsOf(rows[:1]), Window: 1}).Made)
			route, err := r.PrepareRedelivery(t.Context(), a)
			require.NoError(t, err)
			if r.count(t, "webhooks WHERE id = $1 AND is_active AND NOT queued AND failure_count = 0", id) == 0 {
				require.Equal(t, Route{Ended: &Result{Status: Delivered, StatusCode: 200}}, route, "it is not sent once more")
			}
			require.Equal(t, 3, r.deliveries(t, id))
		})
	}
	t.Run("Planned", func(t *testing.T) {
		id, e := r.subscribe(t, to.url, ""), r.storedElsewhere(t)
		r.plan(t, id, e.ID, webhook.TriggerRetry, time.Hour)
		r.execute(t, "UPDATE queue SET attempt = 2, step = 2 WHERE webhook_id = $1", id)
		a := Attempt{EventID: e.ID, WebhookID: id, Number: 2, Trigger: webhook.TriggerRedeliver}
		route, err := r.PrepareRedelivery(t.Context(), a)
		require.NoError(t, err)
		require.Equal(t, Route{Attempt: a, Queued: true}, route, "beside the queue it could be sent twice")
		rows := r.planned(t, id)
		require.Len(t, rows, 1)
		require.Negative(t, rows[0].DueIn)
		require.Equal(t, []any{2, 2, webhook.TriggerRetry}, []any{rows[0].Attempt, rows[0].Step, rows[0].Trigger}, "failing does not end its schedule")
	})
	t.Run("Deleted", func(t *testing.T) {
		route, err := r.PrepareRedelivery(t.Context(), Attempt{EventID: "e", WebhookID: uuid.New(), Number: 1, Trigger: webhook.TriggerRedeliver})
		require.NoError(t, err)
		require.Equal(t, Route{Ended: &Result{Status: Skipped, Error: WebhookGone}}, route)
	})
}

func TestDeliverer_PrepareTest(t *testing.T) {
	t.Parallel()
	test := func(id uuid.UUID) TestEvent {
		event := webhook.NewID()
		return TestEvent{WebhookID: id, EventID: event, WorkflowID: "test-" + event, RunID: "run", At: time.Now()}
	}

	t.Run("IsSentAtOnceToADirectWebhook", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		in := test(id)
		for range 2 { // repeated after a crash
			route, err := r.PrepareTest(t.Context(), in)
			require.NoError(t, err)
			require.False(t, route.Queued)
			result, err := r.Deliver(t.Context(), route.Attempt)
			require.NoError(t, err)
			require.Equal(t, Result{Status: Delivered, StatusCode: 200}, result)
		}
		require.Len(t, to.requests(), 1)
		require.JSONEq(t, `{"event":"test","timestamp":"`+webhook.FormatTime(in.At)+`","data":{"webhookId":"`+id.String()+`","botId":"bot","message":"This is a test event from Mathub"}}`, string(to.requests()[0].body))
		require.Equal(t, 1, r.count(t, "deliveries WHERE trigger = 'test'"))
		require.Equal(t, 1, r.count(t, "events WHERE workflow_id = $1", in.WorkflowID))
	})

	t.Run("ReachesADisabledWebhookAndEnablesNothing", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		r.set(t, id, "is_active = false, failure_count = 10, failure_run = 1, disabled_at = now()")
		route, err := r.PrepareTest(t.Context(), test(id))
		require.NoError(t, err)
		require.True(t, route.Queued)
		state, err := r.Look(t.Context(), id, 1)
		require.NoError(t, err)
		require.Equal(t, 1, r.round(t, Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 1}).Made)
		require.Len(t, to.requests(), 1)
		require.Zero(t, r.failures(t, id))
		require.Equal(t, 1, r.count(t, "webhooks WHERE NOT is_active"))
	})

	t.Run("FailedIsCountedButNotRetried", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 500)
		id := r.subscribe(t, to.url, "")
		route, err := r.PrepareTest(t.Context(), test(id))
		require.NoError(t, err)
		result, err := r.Deliver(t.Context(), route.Attempt)
		require.NoError(t, err)
		require.Equal(t, Result{Status: Failed, StatusCode: 500, Error: "HTTP 500"}, result)
		require.Equal(t, 1, r.failures(t, id))
		require.Empty(t, r.planned(t, id))
	})

	t.Run("OfADeletedWebhookNothingIsStored", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		route, err := r.PrepareTest(t.Context(), test(uuid.New()))
		require.NoError(t, err)
		require.Equal(t, &Result{Status: Skipped, Error: WebhookGone}, route.Ended)
		require.Zero(t, r.count(t, "events"))
	})
}
