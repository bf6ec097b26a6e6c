package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/egress"
	"github.com/mathub/webhooks/webhook"
)

type rig struct {
	*Activities
	pool   *pgxpool.Pool
	keyset *db.Keyset
}

func newRig(t testing.TB) *rig {
	pool := dbtest.New(t)
	return &rig{newActivities(t, pool, testKeyset(t)), pool, testKeyset(t)}
}

var testKeyset = func() func(t testing.TB) *db.Keyset {
	once := sync.OnceValues(func() (*db.Keyset, error) {
		s, err := db.NewKeyset()
		if err != nil {
			return nil, err
		}
		return db.ParseKeyset(s)
	})
	return func(t testing.TB) *db.Keyset {
		k, err := once()
		require.NoError(t, err)
		return k
	}
}()

func newActivities(t testing.TB, pool *pgxpool.Pool, keyset *db.Keyset) *Activities {
	client := egress.New(egress.Options{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, AllowHTTP: true})
	a := New(Config{Pool: pool, Egress: client, Keyset: keyset, Schedule: webhook.DefaultSchedule, Version: "test", Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() {
		a.Close(context.Background())
		client.Close()
	})
	return a
}

func (r *rig) subscribe(t testing.TB, url, secret string) uuid.UUID {
	t.Helper()
	id := addWebhook(t, r.pool)
	var sealed []byte
	if secret != "" {
		var err error
		sealed, err = r.keyset.Seal(id, secret)
		require.NoError(t, err)
	}
	execute(t, r.pool, "UPDATE webhooks SET url = $2, secret = $3 WHERE id = $1", id, url, sealed)
	return id
}

func anEvent() webhook.Event {
	return webhook.Event{Type: webhook.PostCreated, Data: json.RawMessage(`{"postId":"p1","n":12345678901234567890.12345678901234567890}`)}.Complete(time.Now())
}

func (r *rig) accept(t testing.TB, e webhook.Event, run string) Audience {
	t.Helper()
	audience, err := r.AcceptEvent(t.Context(), AcceptInput{Event: e, RunID: run})
	require.NoError(t, err)
	return audience
}

type received struct {
	header http.Header
	body   []byte
}

// receiver is a real HTTP server that keeps what it gets and answers with status.
func receiver(t testing.TB, status *atomic.Int32) (url string, got *[]received) {
	var mu sync.Mutex
	got = new([]received)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		mu.Lock()
		*got = append(*got, received{req.Header.Clone(), body})
		mu.Unlock()
		w.WriteHeader(int(status.Load()))
	}))
	t.Cleanup(server.Close)
	return server.URL, got
}

func answering(code int32) *atomic.Int32 {
	status := new(atomic.Int32)
	status.Store(code)
	return status
}

func TestADeliveryIsSentSignedAndRecorded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url, got := receiver(t, answering(200))
	id := r.subscribe(t, url, "whsec_c2VjcmV0")
	e := anEvent()
	audience := r.accept(t, e, "run")
	require.Equal(t, []Target{{WebhookID: id, BotID: "bot", Host: url[len("http://"):]}}, audience.Targets)

	result, err := r.Deliver(t.Context(), Delivery{EventID: e.ID, WebhookID: id, Attempt: 1})
	require.NoError(t, err)
	require.Equal(t, Result{Status: Delivered, StatusCode: 200}, result)
	require.Len(t, *got, 1)
	sent := (*got)[0]
	require.Equal(t, string(e.Body()), string(sent.body))
	require.Equal(t, webhook.Sign("whsec_c2VjcmV0", sent.body), sent.header.Get("X-Mathub-Signature"))
	require.Equal(t, e.ID, sent.header.Get("webhook-id"))
	require.Equal(t, webhook.DeliveryID(e.ID, id, 1).String(), sent.header.Get("X-Mathub-Delivery"))

	again, err := r.Deliver(t.Context(), Delivery{EventID: e.ID, WebhookID: id, Attempt: 1})
	require.NoError(t, err)
	require.Equal(t, result, again)
	require.Len(t, *got, 1, "what is recorded is not sent again")
	require.Len(t, historyOf(t, r.pool, id), 1)
}

func TestOnlyAnotherRunIsADuplicate(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	ok, okGot := receiver(t, answering(200))
	bad, badGot := receiver(t, answering(503))
	done, failed := r.subscribe(t, ok, ""), r.subscribe(t, bad, "")
	e := anEvent()
	require.Len(t, r.accept(t, e, "run").Targets, 2)
	_, err := r.Deliver(t.Context(), Delivery{EventID: e.ID, WebhookID: done, Attempt: 1})
	require.NoError(t, err)
	first, err := r.Deliver(t.Context(), Delivery{EventID: e.ID, WebhookID: failed, Attempt: 1})
	require.NoError(t, err)
	require.Equal(t, Failed, first.Status)
	require.InDelta(t, 30_000, first.RetryInMs, 6_000)

	require.Equal(t, Audience{Duplicate: true}, r.accept(t, e, "another"))

	// The same run, repeated in another process after a crash, leaves out what was delivered. The failure is still
	// there, so that its retry is planned, but it is not sent again.
	restarted := &rig{newActivities(t, r.pool, r.keyset), r.pool, r.keyset}
	targets := restarted.accept(t, e, "run").Targets
	require.Len(t, targets, 1)
	require.Equal(t, failed, targets[0].WebhookID)
	repeated, err := restarted.Deliver(t.Context(), Delivery{EventID: e.ID, WebhookID: failed, Attempt: 1})
	require.NoError(t, err)
	require.Equal(t, first.Error, repeated.Error)
	require.NotZero(t, repeated.RetryInMs)
	require.Len(t, *okGot, 1)
	require.Len(t, *badGot, 1)
	require.Equal(t, int32(1), stateOf(t, r.pool, failed).Count)
}

func TestARepeatWhileTheFirstIsUnderWaySendsOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	release, hits := make(chan struct{}), new(atomic.Int32)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		hits.Add(1)
		<-release
	}))
	t.Cleanup(server.Close)
	id := r.subscribe(t, server.URL, "")
	e := anEvent()
	r.accept(t, e, "run")
	d := Delivery{EventID: e.ID, WebhookID: id, Attempt: 1}

	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := r.Deliver(impatient, d)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	second := make(chan Result)
	go func() {
		result, _ := r.Deliver(context.Background(), d)
		second <- result
	}()
	time.Sleep(20 * time.Millisecond)
	close(release)
	require.Equal(t, Result{Status: Delivered, StatusCode: 200}, <-second)
	require.Equal(t, int32(1), hits.Load())
	require.Len(t, historyOf(t, r.pool, id), 1)
}

func TestDisabledDeletedAndUnsubscribedWebhooksAreSkipped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url, got := receiver(t, answering(200))
	for reason, change := range map[string]string{
		WebhookDisabled: "UPDATE webhooks SET is_active = false WHERE id = $1",
		WebhookGone:     "DELETE FROM webhooks WHERE id = $1",
		NotSubscribed:   "UPDATE webhooks SET events = '{mention}' WHERE id = $1",
	} {
		id := r.subscribe(t, url, "")
		e := anEvent()
		r.accept(t, e, "run")
		execute(t, r.pool, change, id)
		result, err := r.DeliverSlow(t.Context(), SlowDelivery{Delivery: Delivery{EventID: e.ID, WebhookID: id, Attempt: 2}})
		require.NoError(t, err)
		require.Equal(t, Result{Status: Skipped, Error: reason}, result)
	}
	require.Empty(t, *got)
}

func TestAFailingWebhookIsDeferredAndTakesItsTurnInTheSlowLane(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	status := answering(500)
	url, got := receiver(t, status)
	id := r.subscribe(t, url, "")
	first, second := anEvent(), anEvent()
	r.accept(t, first, "run1")
	r.accept(t, second, "run2")
	result, err := r.Deliver(t.Context(), Delivery{EventID: first.ID, WebhookID: id, Attempt: 1})
	require.NoError(t, err)
	require.Equal(t, Failed, result.Status)
	require.True(t, r.accept(t, anEvent(), "run3").Targets[0].Slow)

	d := Delivery{EventID: second.ID, WebhookID: id, Attempt: 1}
	result, err = r.Deliver(t.Context(), d)
	require.NoError(t, err)
	require.Equal(t, Result{Status: Deferred}, result)
	require.Len(t, *got, 1)
	status.Store(200)
	result, err = r.DeliverSlow(t.Context(), SlowDelivery{Delivery: d})
	require.NoError(t, err)
	require.Equal(t, Delivered, result.Status)
	require.False(t, r.accept(t, anEvent(), "run4").Targets[0].Slow, "it is back in the fast lane")
}

// TestABurstThatDisablesIsNotRetried: failures that end together are judged together. Nine of ten retries would
// otherwise be planned for a webhook that is disabled a moment later.
func TestABurstThatDisablesIsNotRetried(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	gate := make(chan struct{})
	var arrived sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived.Done()
		<-gate
		w.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(server.Close)
	id := r.subscribe(t, server.URL, "")
	deliver := func() <-chan Result {
		e := anEvent()
		require.Len(t, r.accept(t, e, "run").Targets, 1)
		done := make(chan Result, 1)
		go func() {
			result, err := r.Deliver(context.Background(), Delivery{EventID: e.ID, WebhookID: id, Attempt: 1})
			if err != nil {
				t.Error(err)
			}
			done <- result
		}()
		return done
	}
	arrived.Add(webhook.MaxFailures)
	var failures []<-chan Result
	for range webhook.MaxFailures {
		failures = append(failures, deliver())
	}
	arrived.Wait()
	time.Sleep(hangingAfter)
	parked := deliver() // behind those that hang
	close(gate)
	for _, done := range failures {
		require.Equal(t, Result{Status: Failed, StatusCode: 500, Error: "HTTP 500", Final: WebhookDisabled}, <-done)
	}
	require.Equal(t, Result{Status: Skipped, Error: WebhookDisabled}, <-parked)
	require.Len(t, historyOf(t, r.pool, id), webhook.MaxFailures)
}

// TestAFailingWebhookWithNothingUnderWayIsNotWaitedFor: what the database says decides, also in a process that knows
// nothing of the webhook.
func TestAFailingWebhookWithNothingUnderWayIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url, got := receiver(t, answering(200))
	id := r.subscribe(t, url, "")
	e := anEvent()
	r.accept(t, e, "run")
	r.handoff.take(webhook.DeliveryID(e.ID, id, 1)) // as if another process had looked it up
	execute(t, r.pool, "UPDATE webhooks SET failure_count = 3 WHERE id = $1", id)
	result, err := r.Deliver(t.Context(), Delivery{EventID: e.ID, WebhookID: id, Attempt: 1})
	require.NoError(t, err)
	require.Equal(t, Result{Status: Deferred}, result)
	require.Empty(t, *got)
}

func TestASlowAnswerSendsTheNextToTheSlowLane(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var pause atomic.Int64
	pause.Store(int64(slowAnswer + 100*time.Millisecond))
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Duration(pause.Load())) }))
	t.Cleanup(server.Close)
	id := r.subscribe(t, server.URL, "")
	for _, slow := range []bool{false, true, false} {
		e := anEvent()
		require.Equal(t, slow, r.accept(t, e, "run").Targets[0].Slow)
		_, err := r.DeliverSlow(t.Context(), SlowDelivery{Delivery: Delivery{EventID: e.ID, WebhookID: id, Attempt: 1}})
		require.NoError(t, err)
		if slow {
			break
		}
		pause.Store(0)
	}
	require.False(t, r.accept(t, anEvent(), "run").Targets[0].Slow)
}

func TestATestEventReachesADisabledWebhookAndEnablesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url, got := receiver(t, answering(200))
	id := r.subscribe(t, url, "")
	execute(t, r.pool, "UPDATE webhooks SET is_active = false, failure_count = 10, disabled_at = now() WHERE id = $1", id)
	in := TestInput{WebhookID: id, EventID: webhook.NewID(), RunID: "run", At: time.Now()}
	for range 2 { // repeated after a crash
		result, err := r.SendTest(t.Context(), in)
		require.NoError(t, err)
		require.Equal(t, Result{Status: Delivered, StatusCode: 200}, result)
	}
	require.Len(t, *got, 1)
	require.JSONEq(t, `{"event":"test","timestamp":"`+webhook.FormatTime(in.At)+`","data":{"webhookId":"`+id.String()+`","botId":"bot","message":"This is a test event from Mathub"}}`, string((*got)[0].body))
	s := stateOf(t, r.pool, id)
	require.False(t, s.Active)
	require.Zero(t, s.Count)
}

func TestAFailedTestIsNotRetried(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	url, _ := receiver(t, answering(500))
	id := r.subscribe(t, url, "")
	result, err := r.SendTest(t.Context(), TestInput{WebhookID: id, EventID: webhook.NewID(), RunID: "run", At: time.Now()})
	require.NoError(t, err)
	require.Equal(t, Result{Status: Failed, StatusCode: 500, Error: "HTTP 500"}, result)
	require.Equal(t, int32(1), stateOf(t, r.pool, id).Count, "but it counts")
}

func TestTheNextAttemptWaitsAsLongAsTheReceiverAsks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7200")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	t.Cleanup(server.Close)
	id := r.subscribe(t, server.URL, "")
	e := anEvent()
	r.accept(t, e, "run")
	result, err := r.Deliver(t.Context(), Delivery{EventID: e.ID, WebhookID: id, Attempt: 1})
	require.NoError(t, err)
	require.Equal(t, 2*time.Hour, result.RetryIn())
}

func TestAClosedWorkerCutsOffNothingThatCanStillEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	arrived := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		time.Sleep(300 * time.Millisecond)
	}))
	t.Cleanup(server.Close)
	stopping := newActivities(t, r.pool, r.keyset)
	id := r.subscribe(t, server.URL, "")
	e := anEvent()
	r.accept(t, e, "run")
	gone, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, err := stopping.Deliver(gone, Delivery{EventID: e.ID, WebhookID: id, Attempt: 1})
	require.ErrorIs(t, err, context.Canceled)
	stopping.Close(t.Context())
	require.Equal(t, []historyRow{{Success: true}}, historyOf(t, r.pool, id))
}

func TestNothingIsHeldAgainstTheReceiverWhenTheWorkerIsCutOff(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	stopping := newActivities(t, r.pool, r.keyset)
	id := r.subscribe(t, "http://"+listener.Addr().String(), "")
	e := anEvent()
	r.accept(t, e, "run")
	failed := make(chan error)
	go func() {
		_, err := stopping.Deliver(context.Background(), Delivery{EventID: e.ID, WebhookID: id, Attempt: 1})
		failed <- err
	}()
	time.Sleep(100 * time.Millisecond)
	now, cancel := context.WithCancel(t.Context())
	cancel()
	stopping.Close(now)
	require.Error(t, <-failed)
	require.Empty(t, historyOf(t, r.pool, id))
	require.Zero(t, stateOf(t, r.pool, id).Count)
}

func TestALargeAudienceIsPagedWithoutGapsOrOverlaps(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	execute(t, r.pool, "INSERT INTO bots (id, name) SELECT 'bot-' || n, 'bot' FROM generate_series(0, 9) n")
	execute(t, r.pool, "INSERT INTO bots (id, name) VALUES ('large', 'large')")
	const audience = 2*PageSize + 17
	const add = `INSERT INTO webhooks (id, bot_id, url, events) SELECT gen_random_uuid(), $1, 'https://example.com', '{post.created}' FROM generate_series(1, $2)`
	execute(t, r.pool, add, "large", maxAtOncePerBot+1)
	alone := r.accept(t, anEvent(), "run")
	require.Len(t, alone.Targets, maxAtOncePerBot+1, "no large audience")
	execute(t, r.pool, add, "large", PageSize)
	alone = r.accept(t, anEvent(), "run")
	require.Equal(t, Audience{Targets: []Target{}, Held: []string{"large"}}, alone)
	execute(t, r.pool, `INSERT INTO webhooks (id, bot_id, url, events) SELECT gen_random_uuid(), 'bot-' || n % 10, 'https://example.com', '{post.created}' FROM generate_series(1, $1) n`, audience)
	e := anEvent()
	accepted := r.accept(t, e, "run")
	require.Equal(t, []string{"large"}, accepted.Held)
	pages := accepted.Pages
	require.Len(t, pages, 3)
	seen := map[uuid.UUID]bool{}
	for _, page := range pages {
		batch, err := r.ResolveBatch(t.Context(), BatchInput{EventID: e.ID, Page: page, Except: accepted.Held})
		targets := batch.Targets
		require.NoError(t, err)
		require.LessOrEqual(t, len(targets), PageSize)
		for _, target := range targets {
			require.False(t, seen[target.WebhookID])
			seen[target.WebhookID] = true
		}
	}
	require.Len(t, seen, audience)
}

func TestTheAudienceIsWhoTheEventConcerns(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	mine := r.subscribe(t, "https://example.com", "")
	execute(t, r.pool, "UPDATE webhooks SET events = '{mention,post.created}' WHERE id = $1", mine)
	execute(t, r.pool, "INSERT INTO bots (id, name) VALUES ('other', 'other')")
	execute(t, r.pool, "INSERT INTO webhooks (id, bot_id, url, events) VALUES (gen_random_uuid(), 'other', 'https://example.com', '{mention,post.created}')")
	execute(t, r.pool, "INSERT INTO webhooks (id, bot_id, url, events, is_active) VALUES (gen_random_uuid(), 'other', 'https://example.com', '{mention,post.created}', false)")
	for _, c := range []struct {
		kind webhook.EventType
		bots []string
		want int
	}{
		{webhook.PostCreated, nil, 2},
		{webhook.PostCreated, []string{"bot"}, 1},
		{webhook.Mention, []string{"bot"}, 1},
		{webhook.Mention, []string{"bot", "other", "nobody"}, 2},
		{webhook.Mention, []string{"nobody"}, 0},
		{webhook.WikiEdited, nil, 0},
	} {
		e := webhook.Event{Type: c.kind, Data: json.RawMessage(`{}`), BotIDs: c.bots}.Complete(time.Now())
		require.Len(t, r.accept(t, e, "run").Targets, c.want, "%s to %v", c.kind, c.bots)
	}
}

func TestASecretThatDoesNotOpenIsOurFault(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var logged bytes.Buffer
	r.cfg.Logger = slog.New(slog.NewTextHandler(&logged, nil))
	url, got := receiver(t, answering(200))
	id := r.subscribe(t, url, "")
	execute(t, r.pool, "UPDATE webhooks SET secret = 'sealed with another keyset' WHERE id = $1", id)
	e := anEvent()
	r.accept(t, e, "run")
	_, err := r.Deliver(t.Context(), Delivery{EventID: e.ID, WebhookID: id, Attempt: 1})
	require.ErrorContains(t, err, "MATHUB_KEYSET")
	require.Contains(t, logged.String(), "MATHUB_KEYSET", "the operator learns of it")
	require.Contains(t, logged.String(), id.String())
	require.Empty(t, *got, "never unsigned")
	require.Zero(t, stateOf(t, r.pool, id).Count)
}
