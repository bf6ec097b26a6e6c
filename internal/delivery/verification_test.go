package delivery

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/allowance"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

func limited(burst int, perSecond float64) func(*Config) {
	return func(c *Config) { c.Unverified = webhook.Rate{Burst: burst, PerSecond: perSecond} }
}

// TestDeliverer_UnverifiedRate: one bot sends an endpoint that has not agreed its burst and its rate, and no more, over all of
// its webhooks, in all processes and ways.
func TestDeliverer_UnverifiedRate(t *testing.T) {
	t.Parallel()

	t.Run("WhatExceedsItIsLeftToTheQueue", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		processes := []*rig{newRigOn(t, pool, limited(5, 0.001)), newRigOn(t, pool, limited(5, 0.001))}
		r, to := processes[0], newReceiver(t, 200)
		var queued atomic.Int32
		var all sync.WaitGroup
		for i := range 20 {
			id := r.subscribe(t, fmt.Sprintf("%s/%d", to.url, i), "")
			e := r.storedElsewhere(t)
			all.Go(func() {
				result, err := processes[i%2].Run(t.Context(), First(e.ID, id))
				if err != nil {
					t.Error(err)
				}
				if result.Status == Queued {
					queued.Add(1)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 5, to.hits.Load())
		require.EqualValues(t, 15, queued.Load())
		require.Equal(t, 15, r.count(t, "queue"))
		require.Equal(t, 15, r.count(t, "webhooks WHERE queued AND failure_count = 0"))
		require.Equal(t, 5, r.count(t, "deliveries"), "a refusal is no attempt")
	})

	t.Run("QueuesTakeWhatIsFree", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t, limited(6, 4)), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		r.set(t, id, "queued = true")
		for range 12 {
			r.accepted(t)
		}
		var paused bool
		began := time.Now()
		for made := 0; made < 12; {
			state, err := r.Look(t.Context(), id, 8) // which waits out the pause
			require.NoError(t, err)
			result := r.round(t, Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 8})
			made += result.Made
			paused = paused || result.State.ResumeIn > 0
			require.Zero(t, result.Failed)
			require.LessOrEqual(t, float64(to.hits.Load()), 6+4*time.Since(began).Seconds())
		}
		require.True(t, paused || time.Since(began) > 1500*time.Millisecond, "the queue rests meanwhile, unless this machine does for as long")
		require.Less(t, time.Since(began), time.Minute)
		require.Zero(t, r.count(t, "queue"))
	})

	t.Run("PersonIsToldWhenToComeAgain", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t, limited(1, 0.1)), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		for i, want := range []Status{Delivered, Skipped} {
			route, err := r.PrepareTest(t.Context(), TestEvent{WebhookID: id, EventID: fmt.Sprint("t", i), WorkflowID: "test-t", RunID: "run", At: time.Now()})
			require.NoError(t, err)
			if want == Delivered {
				require.Equal(t, Delivered, r.mustRun(t, route.Attempt).Status)
				continue
			}
			require.Equal(t, []any{Skipped, RateLimited}, []any{route.Ended.Status, route.Ended.Error})
			require.InDelta(t, 10, route.Ended.RetryIn.Seconds(), 5)
			require.Zero(t, r.count(t, "events WHERE id = 't1'"), "nothing is stored that is not sent")
		}
		// Also where it is found out late, and where the webhook's queue would send it.
		e := r.storedElsewhere(t)
		a := Attempt{EventID: e.ID, WebhookID: id, Number: 1, Trigger: webhook.TriggerTest}
		require.Equal(t, RateLimited, r.mustRun(t, a).Error)
		r.set(t, id, "queued = true")
		_, ended, err := r.manualTarget(t.Context(), a)
		require.NoError(t, err)
		require.Equal(t, RateLimited, ended.Error)
		require.Zero(t, r.count(t, "queue"))
		require.EqualValues(t, 1, to.hits.Load())
	})

	t.Run("PersonsRowDoesNotSpin", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t, limited(1, 0.1)), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		require.Equal(t, Delivered, r.mustRun(t, First(r.storedElsewhere(t).ID, id)).Status)
		r.execute(t, "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, $2, 1, 0, 'verify', 'epoch')", id, r.storedElsewhere(t).ID)
		state, err := r.Look(t.Context(), id, 1)
		require.NoError(t, err)
		require.Zero(t, r.round(t, Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 1}).Made)
		state, err = r.Look(t.Context(), id, 1)
		require.NoError(t, err)
		require.Empty(t, state.Due)
		require.Equal(t, 1, state.Waiting)
	})

	t.Run("PersonsRowTakesWhatComesFreeNext", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t, limited(1, 2)), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		require.Equal(t, Delivered, r.mustRun(t, First(r.storedElsewhere(t).ID, id)).Status)
		e := r.storedElsewhere(t).ID
		r.execute(t, "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) VALUES ($1, $2, 1, 0, 'verify', 'epoch')", id, e)
		r.set(t, id, "queued = true, resume_at = now() + interval '1 hour'") // as it rests
		r.plan(t, id, r.storedElsewhere(t).ID, webhook.TriggerRetry, -time.Hour)
		state, err := r.Look(t.Context(), id, 2)
		require.NoError(t, err)
		require.Equal(t, 1, r.round(t, Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 2}).Made)
		require.Zero(t, r.count(t, "queue WHERE event_id = $1", e))
		require.EqualValues(t, 2, to.hits.Load())
	})

	t.Run("VerifiedEndpointPaysNothing", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t, limited(1, 0.001)), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		r.set(t, id, "verified_at = now()")
		for range 5 {
			require.Equal(t, Delivered, r.mustRun(t, First(r.accepted(t).ID, id)).Status)
		}
		r.set(t, id, "queued = true")
		r.accepted(t)
		state, err := r.Look(t.Context(), id, 1)
		require.NoError(t, err)
		require.Equal(t, 1, r.round(t, Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 1}).Made)
		require.Zero(t, r.count(t, "allowances"), "not even a row")
	})

	t.Run("RoundPaysForThePresentURL", func(t *testing.T) {
		t.Parallel()
		r, before, after := newRig(t, limited(100, 1)), newReceiver(t, 200), newReceiver(t, 200)
		id := r.subscribe(t, before.url, "")
		a := queued(id, r.plan(t, id, r.storedElsewhere(t).ID, webhook.TriggerRetry, 0))
		a.paid = allowance.Key{BotID: "bot", Endpoint: webhook.PartyOf(before.url)}
		r.move(t, id, after.url)
		require.Equal(t, Queued, r.mustRun(t, a).Status, "what was taken is for the URL before")
		require.Zero(t, after.hits.Load())
		require.Equal(t, 1, r.count(t, "queue"))
		state, err := r.Look(t.Context(), id, 1)
		require.NoError(t, err)
		require.Equal(t, 1, r.round(t, Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 1}).Made)
		require.EqualValues(t, 1, after.hits.Load())
	})
}

// move gives a webhook another URL, as the API does.
func (r *rig) move(t *testing.T, id uuid.UUID, url string) {
	t.Helper()
	sealed, err := r.keyset.SealURL(id, url)
	require.NoError(t, err)
	r.execute(t, "UPDATE webhooks SET url = $2, origin = $3, verified_at = NULL, url_version = url_version + 1 WHERE id = $1", id, sealed, webhook.OriginOf(url))
}

// agreeing is a receiver that answers verifications as answer does.
func agreeing(t *testing.T, answer func(w http.ResponseWriter, body []byte, nonce string)) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		var e struct {
			Event string
			Data  struct{ Nonce string }
		}
		if json.Unmarshal(body, &e) == nil && e.Event == string(webhook.Verify) {
			answer(w, body, e.Data.Nonce)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func (r *rig) verify(t *testing.T, id uuid.UUID) Result {
	t.Helper()
	e := uuid.NewString()
	route, err := r.PrepareVerification(t.Context(), TestEvent{WebhookID: id, EventID: e, WorkflowID: "verify-" + e, RunID: "run", At: time.Now()})
	require.NoError(t, err)
	require.Nil(t, route.Ended)
	return r.mustRun(t, route.Attempt)
}

func (r *rig) isVerified(t *testing.T, id uuid.UUID) bool {
	t.Helper()
	return r.count(t, "webhooks WHERE id = $1 AND verified_at IS NOT NULL", id) == 1
}

func TestDeliverer_Verify(t *testing.T) {
	t.Parallel()

	t.Run("EchoVerifies", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.subscribe(t, agreeing(t, func(w http.ResponseWriter, _ []byte, nonce string) {
			_ = json.NewEncoder(w).Encode(map[string]string{"nonce": nonce})
		}), "secret")
		require.Equal(t, Delivered, r.verify(t, id).Status)
		require.True(t, r.isVerified(t, id))
		require.Equal(t, 1, r.count(t, "deliveries WHERE webhook_id = $1 AND trigger = 'verify' AND success", id))
	})

	t.Run("WhoDoesNotKnowItIsNoneTheWorse", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		for name, answer := range map[string]func(http.ResponseWriter, []byte, string){
			"takes anything": func(http.ResponseWriter, []byte, string) {},
			"sends it back":  func(w http.ResponseWriter, body []byte, _ string) { _, _ = w.Write(body) },
			"refuses it":     func(w http.ResponseWriter, _ []byte, nonce string) { http.Error(w, nonce, http.StatusBadRequest) },
			"breaks off":     func(http.ResponseWriter, []byte, string) { panic(http.ErrAbortHandler) },
		} {
			id := r.subscribe(t, agreeing(t, answer), "")
			for range webhook.MaxFailures + 2 {
				require.Equal(t, Failed, r.verify(t, id).Status, name)
			}
			require.False(t, r.isVerified(t, id), name)
			require.Equal(t, 1, r.count(t, "webhooks WHERE id = $1 AND is_active AND NOT queued AND failure_count = 0", id), name)
			require.Zero(t, r.count(t, "queue WHERE webhook_id = $1", id), name)
		}
	})

	t.Run("EndsNoRunOfFailures", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		id := r.subscribe(t, agreeing(t, func(w http.ResponseWriter, _ []byte, nonce string) { _, _ = io.WriteString(w, nonce) }), "")
		r.set(t, id, "queued = true, failure_count = 3, failure_run = 1")
		e := uuid.NewString()
		_, err := r.PrepareVerification(t.Context(), TestEvent{WebhookID: id, EventID: e, WorkflowID: "verify-" + e, RunID: "run", At: time.Now()})
		require.NoError(t, err)
		state, err := r.Look(t.Context(), id, 1)
		require.NoError(t, err)
		require.Equal(t, 1, r.round(t, Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 1}).Made)
		require.True(t, r.isVerified(t, id))
		require.Equal(t, 3, r.failures(t, id))
	})

	t.Run("AnswerIsForTheURLThatWasAsked", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		asked, answer := make(chan struct{}), make(chan struct{})
		id := r.subscribe(t, agreeing(t, func(w http.ResponseWriter, _ []byte, nonce string) {
			close(asked)
			<-answer
			_, _ = io.WriteString(w, nonce)
		}), "")
		e := uuid.NewString()
		route, err := r.PrepareVerification(t.Context(), TestEvent{WebhookID: id, EventID: e, WorkflowID: "verify-" + e, RunID: "run", At: time.Now()})
		require.NoError(t, err)
		ended := r.start(route.Attempt)
		<-asked
		r.move(t, id, "https://third.party.example/")
		close(answer)
		require.NoError(t, (<-ended).err)
		require.False(t, r.isVerified(t, id))
	})
}

// TestDeliverer_WhatIsPlannedRestsUntilTheEndpointAgrees: a change of the URL drops nothing of the queue, whatever the new
// endpoint answers at first, and the queue goes on once it agrees, with nothing before it that nobody may send.
func TestDeliverer_WhatIsPlannedRestsUntilTheEndpointAgrees(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*Config){
		"no rate": func(*Config) {},
		"a rate":  limited(100, 50),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, before := newRig(t, func(c *Config) { c.Verification = webhook.VerificationRequire }, set), newReceiver(t, 200)
			var agrees atomic.Bool
			after := agreeing(t, func(w http.ResponseWriter, _ []byte, nonce string) {
				if !agrees.Load() {
					w.WriteHeader(http.StatusInternalServerError)
				}
				_, _ = io.WriteString(w, nonce)
			})
			id := r.subscribe(t, before.url, "")
			r.set(t, id, "queued = true")
			r.move(t, id, after)
			for range 3 {
				r.plan(t, id, r.storedElsewhere(t).ID, webhook.TriggerRetry, 0)
			}
			ask := func() {
				require.NoError(t, db.WithTx(t.Context(), r.pool, func(tx pgx.Tx) error { return history.PlanVerification(t.Context(), tx, id, "bot") }))
			}
			next := func() RoundResult {
				state, err := r.queue.Look(t.Context(), id, 4)
				require.NoError(t, err)
				return r.round(t, Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 4})
			}
			ask()
			require.Equal(t, 1, next().Made, "the verification, alone")
			require.Equal(t, 3, r.count(t, "queue"))
			rests := next()
			require.Zero(t, rests.Made)
			require.Greater(t, rests.State.ResumeIn, time.Minute, "no round after round")

			agrees.Store(true)
			ask()
			r.execute(t, "UPDATE queue SET due_at = now() WHERE trigger = 'verify'") // as one that was put off
			state, err := r.queue.Look(t.Context(), id, 1)
			require.NoError(t, err)
			require.Equal(t, AttemptRows, NextStep(state, 1).Kind, "others do not stand before it")
			require.Equal(t, 1, next().Made)
			require.True(t, r.isVerified(t, id))
			require.Equal(t, 3, next().Made, "the rest is over")
			require.Zero(t, r.count(t, "queue"))
		})
	}

	t.Run("the queue is woken", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, func(c *Config) { c.Verification = webhook.VerificationRequire })
		id := r.subscribe(t, agreeing(t, func(w http.ResponseWriter, _ []byte, nonce string) { _, _ = io.WriteString(w, nonce) }), "")
		row := r.plan(t, id, r.storedElsewhere(t).ID, webhook.TriggerRetry, 0)
		require.Zero(t, r.round(t, Round{WebhookID: id, BotID: "bot", Rows: []history.Row{row}, Window: 1}).Made)
		r.taken()
		require.Equal(t, Delivered, r.verify(t, id).Status)
		require.Equal(t, []uuid.UUID{id}, r.taken())
	})

	t.Run("the URL is changed in a round", func(t *testing.T) {
		t.Parallel()
		r, to := newRig(t, func(c *Config) { c.Verification = webhook.VerificationRequire }), newReceiver(t, 200)
		id := r.subscribe(t, to.url, "")
		row := r.plan(t, id, r.storedElsewhere(t).ID, webhook.TriggerRetry, 0)
		require.Equal(t, Queued, r.mustRun(t, queued(id, row)).Status)
		require.Equal(t, 1, r.count(t, "queue"))
	})
}

// TestDeliverer_VerificationRequired: an endpoint that has not agreed gets nothing but verifications, in any way.
func TestDeliverer_VerificationRequired(t *testing.T) {
	t.Parallel()
	r, to := newRig(t, func(c *Config) { c.Verification = webhook.VerificationRequire }), newReceiver(t, 200)
	id := r.subscribe(t, to.url, "")
	skipped := Result{Status: Skipped, Error: NotVerified}
	require.Equal(t, skipped, r.mustRun(t, First(r.accepted(t).ID, id)), "as it was accepted")
	require.Equal(t, skipped, r.mustRun(t, First(r.storedElsewhere(t).ID, id)))
	require.Equal(t, skipped, r.mustRun(t, Attempt{EventID: r.storedElsewhere(t).ID, WebhookID: id, Number: 1, Trigger: webhook.TriggerTest}))
	route, err := r.PrepareTest(t.Context(), TestEvent{WebhookID: id, EventID: "t", WorkflowID: "test-t", RunID: "run", At: time.Now()})
	require.NoError(t, err)
	require.Equal(t, &skipped, route.Ended)
	var rows []history.Row
	for _, trigger := range []webhook.Trigger{webhook.TriggerRetry, webhook.TriggerRecover, webhook.TriggerTest} {
		rows = append(rows, r.plan(t, id, r.storedElsewhere(t).ID, trigger, 0))
	}
	require.Zero(t, r.round(t, Round{WebhookID: id, BotID: "bot", Rows: rows, Window: 4}).Made)
	require.Zero(t, to.hits.Load())
	require.Zero(t, r.deliveries(t, id))
	require.Equal(t, 2, r.count(t, "queue WHERE trigger IN ('retry', 'recover')"), "what is planned stays planned")
	require.Equal(t, 2, r.count(t, "queue"))

	require.Equal(t, Failed, r.verify(t, id).Status)
	require.EqualValues(t, 1, to.hits.Load())
	r.set(t, id, "verified_at = now()")
	require.Equal(t, Delivered, r.mustRun(t, First(r.accepted(t).ID, id)).Status)
}
