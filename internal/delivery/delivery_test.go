package delivery

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/admission"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

func TestDeliverer_Run(t *testing.T) {
	t.Parallel()

	t.Run("SentSignedAndRecorded", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "whsec_c2VjcmV0")
		e := r.accepted(t)
		result := r.mustRun(t, First(e.ID, id))
		require.Equal(t, Result{Status: Delivered, StatusCode: 200}, result)
		require.Len(t, to.requests(), 1)
		sent := to.requests()[0]
		require.Equal(t, string(e.Body()), string(sent.body))
		require.Equal(t, webhook.Sign("whsec_c2VjcmV0", sent.body), sent.header.Get("X-Mathub-Signature"))
		require.Equal(t, e.ID, sent.header.Get("webhook-id"))
		require.Equal(t, r.deliveryID(t, First(e.ID, id)).String(), sent.header.Get("X-Mathub-Delivery"))

		for _, process := range []*rig{r, newRigOn(t, r.pool)} {
			require.Equal(t, result, process.mustRun(t, First(e.ID, id)))
		}
		require.Len(t, to.requests(), 1, "what is recorded is not sent again, by whatever process")
		require.Equal(t, 1, r.deliveries(t, id))
	})

	t.Run("HealthyWritesOneRow", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 204)
		id := r.subscribe(t, to.url, "")
		e := r.accepted(t)
		written := func() (versions string) {
			// xmin tells every write of a row, and the sequence every row that was ever put into a queue.
			require.NoError(t, r.pool.QueryRow(t.Context(), `SELECT concat_ws(' ', (SELECT xmin FROM webhooks), (SELECT xmin FROM events), (SELECT is_called FROM queue_seq_seq),
				(SELECT count(*) FROM queue))`).Scan(&versions))
			return versions
		}
		before := written()
		require.Equal(t, Delivered, r.mustRun(t, First(e.ID, id)).Status)
		require.Equal(t, before, written())
		require.Equal(t, 1, r.deliveries(t, id))
		require.Empty(t, r.taken())
	})

	t.Run("FailureIsQueuedForItsRetry", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 503)
		id := r.subscribe(t, to.url, "")
		e := r.accepted(t)
		want := Result{Status: Failed, StatusCode: 503, Error: "HTTP 503", Retrying: true}
		require.Equal(t, want, r.mustRun(t, First(e.ID, id)))
		rows := r.planned(t, id)
		require.Len(t, rows, 1)
		require.InDelta(t, webhook.DefaultSchedule[0], rows[0].DueIn, float64(webhook.DefaultSchedule[0])*0.2+float64(5*time.Second))
		require.Equal(t, 2, rows[0].Attempt)
		require.True(t, r.isQueued(t, id))
		require.Equal(t, []uuid.UUID{id}, r.taken())

		require.Equal(t, want, newRigOn(t, r.pool).mustRun(t, First(e.ID, id)), "repeated after a crash")
		require.Len(t, to.requests(), 1)
		require.Len(t, r.planned(t, id), 1)
		require.Equal(t, 1, r.failures(t, id))
	})

	t.Run("NextAttemptWaitsAsLongAsTheReceiverAsks", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 429)
		to.header.Set("Retry-After", "7200")
		id := r.subscribe(t, to.url, "")
		r.mustRun(t, First(r.accepted(t).ID, id))
		require.InDelta(t, 2*time.Hour, r.planned(t, id)[0].DueIn, float64(10*time.Second))
	})

	t.Run("EmptyScheduleIsOneAttempt", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t, func(c *Config) { c.Schedule = nil }), newReceiver(t, 500)
		id := r.subscribe(t, to.url, "")
		require.Equal(t, Result{Status: Failed, StatusCode: 500, Error: "HTTP 500"}, r.mustRun(t, First(r.accepted(t).ID, id)))
		require.Empty(t, r.planned(t, id))
	})

	t.Run("TenthFailureIsNotRetried", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 500)
		id := r.subscribe(t, to.url, "")
		r.set(t, id, "failure_count = 9, failure_run = 1")
		e := r.accepted(t)
		for _, process := range []*rig{r, newRigOn(t, r.pool)} { // the other finds it recorded
			require.Equal(t, Result{Status: Failed, StatusCode: 500, Error: "HTTP 500", NoRetryReason: WebhookDisabled}, process.mustRun(t, First(e.ID, id)))
		}
		require.Empty(t, r.planned(t, id))
	})

	t.Run("WhatIsNotToBeSentIsSkipped", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t, func(c *Config) { c.Retention = webhook.DefaultRetention }), newReceiver(t, 200)
		for name, c := range map[string]struct{ change, reason string }{
			"disabled":     {"UPDATE webhooks SET is_active = false WHERE id = $1", WebhookDisabled},
			"deleted":      {"DELETE FROM webhooks WHERE id = $1", WebhookGone},
			"unsubscribed": {"UPDATE webhooks SET events = '{mention}' WHERE id = $1", NotSubscribed},
			"removed":      {"DELETE FROM events WHERE $1::uuid IS NOT NULL", EventGone},
			"expired":      {"UPDATE events SET accepted_at = now() - interval '31 days' WHERE $1::uuid IS NOT NULL", EventGone},
		} {
			id := r.subscribe(t, to.url, "")
			e := r.storedElsewhere(t)
			r.execute(t, c.change, id)
			require.Equal(t, Result{Status: Skipped, Error: c.reason}, r.mustRun(t, First(e.ID, id)), name)
			require.Zero(t, r.deliveries(t, id))
		}
		require.Empty(t, to.requests())
	})

	t.Run("PersonMayHaveAnExpiredEventSent", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t, func(c *Config) { c.Retention = webhook.DefaultRetention }), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		e := r.storedElsewhere(t)
		r.execute(t, "UPDATE events SET accepted_at = now() - interval '31 days'")
		r.sentBefore(t, id, e.ID, 1)
		require.Equal(t, Delivered, r.mustRun(t, Attempt{EventID: e.ID, WebhookID: id, Number: 2, Trigger: webhook.TriggerRedeliver}).Status)
	})

	t.Run("OwnFaultIsNoAttempt", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, withoutSockets(t))
		id := r.subscribe(t, unresolved, "")
		e := r.accepted(t)
		require.Equal(t, Result{Status: Queued}, r.mustRun(t, First(e.ID, id)))
		require.Zero(t, r.deliveries(t, id), "no row")
		require.Zero(t, r.failures(t, id), "no count")
		require.False(t, r.isQueued(t, id), "and nothing else is held up")
		rows := r.planned(t, id)
		require.Len(t, rows, 1)
		require.Equal(t, []int{1, 1}, []int{rows[0].Attempt, rows[0].Step})
		require.InDelta(t, ownFaultDelay, rows[0].DueIn, float64(ownFaultDelay)*0.2+float64(3500*time.Millisecond))
		require.Equal(t, []uuid.UUID{id}, r.taken())
		inFlight, _ := r.gate.load()
		require.Zero(t, inFlight)

		old := r.storedElsewhere(t)
		r.sentBefore(t, id, old.ID, 1)
		_, err := r.Run(t.Context(), Attempt{EventID: old.ID, WebhookID: id, Number: 2, Trigger: webhook.TriggerRedeliver})
		require.ErrorContains(t, err, "too many open files", "a person learns of it at once")
		require.Len(t, r.planned(t, id), 1)
	})

	t.Run("PanicGivesThePermitBack", func(t *testing.T) {
		t.Parallel()
		tracer := new(panickingTracer)
		r, to := newRig(t, func(c *Config) { c.Tracer = tracer }), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		e := r.accepted(t)
		tracer.panics.Store(true)
		for range admission.FirstWindow + 1 { // as many as would fill the window, were they kept
			_, err := r.Run(t.Context(), First(e.ID, id))
			require.ErrorContains(t, err, "panicked")
			inFlight, waiting := r.gate.load()
			require.Equal(t, []int{0, 0}, []int{inFlight, waiting})
		}
		require.Zero(t, r.deliveries(t, id))
		tracer.panics.Store(false)
		require.Equal(t, Delivered, r.mustRun(t, First(e.ID, id)).Status, "and the attempt can be made again")
	})

	t.Run("RepeatJoinsTheOneInFlight", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		_, release := to.held(t)
		a := First(r.accepted(t).ID, id)
		impatient, cancel := context.WithCancel(t.Context())
		go func() {
			to.arrived(t, 1)
			cancel()
		}()
		_, err := r.Run(impatient, a)
		require.ErrorIs(t, err, context.Canceled)
		second, third := r.start(a), r.start(a)
		release()
		for _, ended := range []<-chan runEnd{second, third} {
			require.Equal(t, runEnd{Result: Result{Status: Delivered, StatusCode: 200}}, <-ended)
		}
		require.EqualValues(t, 1, to.hits.Load())
		require.Equal(t, 1, r.deliveries(t, id))
	})

	// The other's deliveries go with their partition, up to five days after it.
	t.Run("AnIDThatIsUsedAgainIsAnotherEvent", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		direct, queued := r.storedElsewhere(t), r.storedElsewhere(t)
		ago := time.Now().Add(-31 * 24 * time.Hour)
		for _, e := range []webhook.Event{direct, queued} {
			r.execute(t, "INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at) VALUES ($1, $2, $3, 1, true, 1, $4)",
				webhook.DeliveryID(ago, First(e.ID, id).key()), id, e.ID, ago)
		}
		require.Equal(t, Result{Status: Delivered, StatusCode: 200}, r.mustRun(t, First(direct.ID, id)))
		require.Len(t, to.requests(), 1)
		require.Equal(t, Result{Status: Delivered, StatusCode: 200}, r.mustRun(t, First(direct.ID, id)))
		require.Len(t, to.requests(), 1)

		row := r.plan(t, id, queued.ID, webhook.TriggerRecover, 0)
		sum, err := r.RunRound(t.Context(), Round{WebhookID: id, BotID: "bot", Window: 1, Rows: []history.Row{row}})
		require.NoError(t, err)
		require.Equal(t, 1, sum.Made)
		require.Len(t, to.requests(), 2)
		require.Empty(t, r.planned(t, id))
	})

	t.Run("SecretThatDoesNotOpenIsOurFault", func(t *testing.T) {
		t.Parallel()
		var logged bytes.Buffer
		r, to := newRig(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) }), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		r.set(t, id, "secret = 'sealed with another keyset'")
		e := r.accepted(t)
		for range 2 { // the second after a crash
			require.Equal(t, Result{Status: Queued}, r.mustRun(t, First(e.ID, id)), "what the event has for others goes on")
		}
		require.Contains(t, logged.String(), "MATHUB_KEYSET", "the operator learns of it")
		require.Contains(t, logged.String(), id.String())
		r.execute(t, "UPDATE queue SET due_at = now()")
		round := Round{WebhookID: id, BotID: "bot", Window: 1, Rows: rowsOf(r.planned(t, id))}
		_, err := r.RunRound(t.Context(), round)
		require.ErrorContains(t, err, "MATHUB_KEYSET")
		require.Empty(t, to.requests(), "never unsigned")
		require.Zero(t, r.failures(t, id))
		r.set(t, id, "secret = NULL")
		sum, err := r.RunRound(t.Context(), round)
		require.NoError(t, err)
		require.Equal(t, 1, sum.Made)
		require.Len(t, to.requests(), 1)
	})
}

// TestDeliverer_Clock: what this machine's clock shows is neither signed nor held against anyone.
func TestDeliverer_Clock(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	clock := db.NewClock(pool, slog.New(slog.DiscardHandler), nil)
	set := func(ahead time.Duration) {
		dbtest.SetClock(t, pool, ahead)
		require.NoError(t, clock.Read(t.Context()))
	}
	kept := func(c *Config) { c.Clock, c.Retention = clock, webhook.DefaultRetention }
	r, to := newRigOn(t, pool, kept), newReceiver(t, 401)
	signed, open := r.subscribe(t, to.url, "secret"), r.subscribe(t, to.url, "")
	for _, ahead := range []time.Duration{10 * time.Minute, -40 * 24 * time.Hour} {
		set(ahead)
		e := r.accepted(t)
		require.Equal(t, Result{Status: Queued}, r.mustRun(t, First(e.ID, signed)), "nobody knows whether the refusal is about the time")
		requests := to.requests()
		at, err := strconv.ParseInt(requests[len(requests)-1].header.Get("Webhook-Timestamp"), 10, 64)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(ahead), time.Unix(at, 0), 10*time.Second)
		require.Zero(t, r.failures(t, signed))
		rows := r.planned(t, signed)
		require.InDelta(t, clockFaultDelay, rows[len(rows)-1].DueIn, float64(clockFaultDelay)*0.2+float64(5*time.Second), "the receiver is not asked all the time")
		r.execute(t, "DELETE FROM queue")
	}
	fresh := r.storedElsewhere(t)
	r.execute(t, "UPDATE events SET accepted_at = now() WHERE id = $1", fresh.ID)
	require.Equal(t, Failed, r.mustRun(t, First(fresh.ID, open)).Status, "it is kept, and it is not about a signature")
	r.execute(t, "DELETE FROM queue")
	var attemptedAt time.Time
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT attempted_at FROM deliveries").Scan(&attemptedAt))
	require.WithinDuration(t, time.Now().Add(-40*24*time.Hour), attemptedAt, 10*time.Second)
	to.status.Store(404)
	require.Equal(t, Failed, r.mustRun(t, First(r.accepted(t).ID, signed)).Status, "nor is this")

	// A Postgres that is ahead makes nothing expired.
	set(40 * 24 * time.Hour)
	require.Equal(t, Queued, r.mustRun(t, First(r.storedElsewhere(t).ID, open)).Status)

	// Once they agree, refusals count.
	set(0)
	to.status.Store(401)
	r.execute(t, "UPDATE webhooks SET queued = false, failure_count = 0, resume_at = NULL")
	require.Equal(t, Failed, r.mustRun(t, First(r.accepted(t).ID, signed)).Status)
}

// panickingTracer panics when a POST is to begin.
type panickingTracer struct {
	noop.Tracer
	panics atomic.Bool
}

func (p *panickingTracer) Start(ctx context.Context, _ string, _ ...trace.SpanStartOption) (context.Context, trace.Span) {
	if p.panics.Load() {
		panic("on purpose")
	}
	return ctx, noop.Span{}
}

func TestDeliverer_Close(t *testing.T) {
	t.Parallel()

	t.Run("CutsOffNothingThatCanStillEnd", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		_, release := to.held(t)
		e := r.accepted(t)
		ended := r.start(First(e.ID, id))
		to.arrived(t, 1)
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			r.Close(context.Background())
		}()
		require.Eventually(t, func() bool {
			_, err := r.Run(t.Context(), First("another", id))
			return err == errClosed //nolint:errorlint // the very value
		}, 3*time.Minute, time.Millisecond, "it takes no more")
		release()
		require.Equal(t, Delivered, (<-ended).Status)
		<-closed
		require.Equal(t, 1, r.deliveries(t, id))
	})

	t.Run("WhatItCutsOffCountsForNothing", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		silent, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = silent.Close() })
		id := r.subscribe(t, "http://"+silent.Addr().String(), "")
		ended := r.start(First(r.accepted(t).ID, id))
		conn, err := silent.Accept()
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		now, cancel := context.WithCancel(t.Context())
		cancel()
		r.Close(now)
		require.Error(t, (<-ended).err)
		require.Zero(t, r.deliveries(t, id))
		require.Zero(t, r.failures(t, id))
	})
}

// TestDeliverer_KeepsNoSecretThatIsAnsweredWith: a receiver that shows all it knows has nothing of it stored in the clear.
func TestDeliverer_KeepsNoSecretThatIsAnsweredWith(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, status := range map[string]int{"taken": http.StatusOK, "failed": http.StatusInternalServerError} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, "%s: %s, signed %s with the-secret", name, req.URL, req.Header.Get("X-Mathub-Signature"))
		}))
		t.Cleanup(server.Close)
		id := r.subscribe(t, server.URL+"/in/path-token?key=query-token", "the-secret")
		r.mustRun(t, First(r.accepted(t).ID, id))
		var body string
		require.NoError(t, r.pool.QueryRow(t.Context(), "SELECT convert_from(response_body, 'UTF8') FROM deliveries WHERE webhook_id = $1", id).Scan(&body))
		require.Equal(t, name+": /in/**********?key=***********, signed "+strings.Repeat("*", 64)+" with **********", body)
	}
}
