package delivery

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

const ordered = "queued = true, ordered = true"

// round makes a round of what is due of a webhook, as its queue would.
func (r *rig) next(t testing.TB, id uuid.UUID) RoundResult {
	t.Helper()
	state, err := r.Look(t.Context(), id, 1)
	require.NoError(t, err)
	return r.round(t, Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 1})
}

// eventsOf are the events of a receiver's requests.
func eventsOf(got []received) (ids []string) {
	for _, req := range got {
		ids = append(ids, req.header.Get("webhook-id"))
	}
	return ids
}

// acceptance is one in parts: a transaction that has stored an event, and one that has addressed it.
type transaction struct {
	pgx.Tx
	event webhook.Event
}

func (r *rig) begin(t testing.TB) transaction {
	t.Helper()
	tx, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // one that was committed is done
	e := anEvent()
	_, err = db.New().InsertEvents(t.Context(), tx, db.InsertEventsParams{
		Ids: []string{e.ID}, Types: []string{string(e.Type)}, Payloads: [][]byte{e.Body()}, Bots: []string{""}, Places: []int32{0}, RunID: "run",
	})
	require.NoError(t, err)
	return transaction{tx, e}
}

func (x transaction) address(ctx context.Context) error {
	all := []*acceptance{{event: storedEvent{ID: x.event.ID, Type: x.event.Type, RunID: "run"}}}
	_, err := db.New().AddressEvents(ctx, x, addressed(all, Page{Upto: uuid.Max}, PageSize+1, true))
	return err
}

// TestOrderIsThatOfTheCommits: a row that is committed later is never before one that could be seen.
func TestOrderIsThatOfTheCommits(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	id := r.subscribe(t, to.url, "")
	r.set(t, id, ordered)
	older, newer := r.begin(t), r.begin(t)
	require.NoError(t, newer.address(t.Context()))
	addressed := make(chan error, 1)
	go func() { addressed <- older.address(context.Background()) }()
	require.Eventually(t, func() bool {
		return r.count(t, "pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == 1
	}, 3*time.Minute, time.Millisecond, "one adds rows at a time")
	require.NoError(t, newer.Commit(t.Context()))
	require.NoError(t, <-addressed)
	require.NoError(t, older.Commit(t.Context()))
	require.Equal(t, 2, r.next(t, id).Made)
	require.Equal(t, []string{newer.event.ID, older.event.ID}, eventsOf(to.requests()))

	other := r.subscribe(t, to.url, "")
	r.set(t, other, "queued = true")
	r.set(t, id, "is_active = false")
	first, second := r.begin(t), r.begin(t)
	require.NoError(t, second.address(t.Context()))
	require.NoError(t, first.address(t.Context()), "others wait for nothing")
}

func TestOrderOfABatch(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	id := r.subscribe(t, to.url, "")
	r.set(t, id, ordered)
	var want []string
	for range 3 {
		in := toAccept("run", anEvent(), anEvent(), anEvent(), anEvent())
		for _, e := range in.Events {
			want = append(want, e.ID)
		}
		_, err := r.Accept(t.Context(), in)
		require.NoError(t, err)
	}
	require.Equal(t, len(want), r.next(t, id).Made)
	require.Equal(t, want, eventsOf(to.requests()))
	require.True(t, r.isQueued(t, id), "it never turns direct")
}

// TestARetryHoldsUpTheOthers, and is made before them.
func TestARetryHoldsUpTheOthers(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 500)
	id := r.subscribe(t, to.url, "")
	r.set(t, id, ordered)
	first, second, third := r.accepted(t).ID, r.accepted(t).ID, r.accepted(t).ID
	require.Equal(t, 1, r.next(t, id).Failed)
	to.status.Store(200)
	result := r.next(t, id)
	require.Zero(t, result.Made)
	require.InDelta(t, 30*time.Second, result.State.ResumeIn, float64(7*time.Second), "the schedule, and not the rest of a failing webhook")
	require.Equal(t, first, result.State.Due[0].EventID)

	// A test, or a redelivery of what was sent, goes past it and changes nothing of it.
	for _, status := range []int32{200, 500} {
		to.status.Store(status)
		event := webhook.NewID()
		route, err := r.PrepareTest(t.Context(), TestEvent{WebhookID: id, EventID: event, WorkflowID: "test-" + event, RunID: "run", At: time.Now()})
		require.NoError(t, err)
		require.True(t, route.Queued)
		result = r.next(t, id)
		require.Equal(t, 1, result.Made)
		require.Greater(t, result.State.ResumeIn, 20*time.Second, "status %d", status)
	}

	// What waits behind the first can be neither retried now nor sent again.
	for _, event := range []string{second, third} {
		n, err := r.Queue().RetryNow(t.Context(), id, event)
		require.NoError(t, err)
		require.Zero(t, n)
		route, err := r.PrepareRedelivery(t.Context(), Attempt{EventID: event, WebhookID: id, Number: 1})
		require.NoError(t, err)
		require.Equal(t, &Result{Status: Skipped, Error: InOrder}, route.Ended)
	}
	route, err := r.PrepareRedelivery(t.Context(), Attempt{EventID: first, WebhookID: id, Number: 2})
	require.NoError(t, err)
	require.True(t, route.Queued)
	to.status.Store(200)
	r.next(t, id)
	r.next(t, id)
	require.Equal(t, []string{first, first, second, third}, withoutTests(to))
}

func withoutTests(to *receiver) (ids []string) {
	for _, req := range to.requests() {
		if req.header.Get("X-Mathub-Event") != "test" {
			ids = append(ids, req.header.Get("webhook-id"))
		}
	}
	return ids
}

// TestGivenUpMakesRoom: after its last attempt the next event follows.
func TestGivenUpMakesRoom(t *testing.T) {
	t.Parallel()
	r, to := newRig(t, func(c *Config) { c.Schedule = webhook.Schedule{time.Millisecond} }), newReceiver(t, 500)
	id := r.subscribe(t, to.url, "")
	r.set(t, id, ordered)
	first, second := r.accepted(t).ID, r.accepted(t).ID
	for range 3 {
		r.set(t, id, "resume_at = NULL")
		require.Equal(t, 1, r.next(t, id).Failed)
	}
	require.Equal(t, []string{first, first, second}, eventsOf(to.requests()))
	require.Equal(t, 3, r.failures(t, id))
}

// TestOwnFaultsKeepThePlace: what our own side cannot attempt is put off, and with it all that follows.
func TestOwnFaultsKeepThePlace(t *testing.T) {
	t.Parallel()
	r := newRig(t, withoutSockets(t))
	id := r.subscribe(t, unresolved, "")
	r.set(t, id, ordered)
	first, second := r.accepted(t).ID, r.accepted(t).ID
	result := r.next(t, id)
	require.Zero(t, result.Made)
	require.InDelta(t, 5*time.Second, result.State.ResumeIn, float64(4*time.Second))
	planned := r.planned(t, id)
	require.Equal(t, []string{first, second}, []string{planned[0].EventID, planned[1].EventID})
}

// TestARoundOfBefore sends what is first by now, and nothing that could not end before another worker gets the round.
func TestARoundOfBefore(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	id := r.subscribe(t, to.url, "")
	r.set(t, id, ordered)
	e := r.accepted(t)
	state, err := r.Look(t.Context(), id, 1)
	require.NoError(t, err)
	round := Round{WebhookID: id, BotID: "bot", Rows: state.Due, Window: 1}
	soon, cancel := context.WithTimeout(t.Context(), webhook.AttemptTimeout-time.Millisecond)
	defer cancel()
	result, err := r.RunRound(soon, round)
	require.NoError(t, err)
	require.Zero(t, result.Made)
	require.Empty(t, to.requests())

	older := r.storedElsewhere(t) // as a recovery would find it
	r.plan(t, id, older.ID, webhook.TriggerRecover, -time.Hour)
	require.Equal(t, 2, r.round(t, round).Made)
	require.Equal(t, []string{older.ID, e.ID}, eventsOf(to.requests()))
}

// TestAStoppingWorkerBeginsNothing: another worker is given the round as soon as it stops, and must not meet a POST that began later.
func TestAStoppingWorkerBeginsNothing(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	id := r.subscribe(t, to.url, "")
	r.set(t, id, ordered)
	want := []string{r.accepted(t).ID, r.accepted(t).ID, r.accepted(t).ID}
	stopping := make(chan struct{})
	begin := func() <-chan RoundResult {
		ended := make(chan RoundResult, 1)
		go func() {
			result, err := r.RunRound(context.Background(), Round{WebhookID: id, BotID: "bot", Rows: []history.Row{{EventID: want[0], Attempt: 1, Step: 1, Trigger: webhook.TriggerEvent}}, Window: 1, Stopping: stopping})
			if err != nil {
				t.Error(err)
			}
			ended <- result
		}()
		return ended
	}
	_, release := to.held(t)
	ended := begin()
	to.arrived(t, 1)
	close(stopping)
	release()
	require.Equal(t, 1, (<-ended).Made)
	require.Zero(t, (<-begin()).Made, "a round that it was given in the last moment")
	require.Equal(t, 2, r.next(t, id).Made)
	require.Equal(t, want, eventsOf(to.requests()))
}

// TestALongAudienceIsInOrder: of an audience that is paged, ordered webhooks have their rows before the pages are made.
func TestALongAudienceIsInOrder(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	r.execute(t, "INSERT INTO bots (id, name) VALUES ('bot', 'bot')")
	r.execute(t, fmt.Sprintf("INSERT INTO webhooks (id, bot_id, url, origin, events) SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'bot', 'sealed', 'https://example.com', '{post.created}' FROM generate_series(0, %d) n", PageSize))
	id := r.subscribe(t, to.url, "") // beyond the first page
	r.set(t, id, ordered)
	var want []string
	for n := range 2 {
		e := anEvent()
		a := r.accept(t, e, "run")
		require.NotEmpty(t, a.Pages)
		want = append(want, e.ID)
		require.Equal(t, n == 0, len(r.taken()) == 1, "what waits already wakes its queue")
	}
	addressPages := func() {
		for _, event := range want {
			for page := (Page{Upto: uuid.Max}); ; {
				part, err := r.AddressPart(t.Context(), PartOfAudience{EventID: event, Page: page})
				require.NoError(t, err)
				if !part.More {
					break
				}
				page.After = part.Last
			}
		}
	}
	addressPages()
	require.Equal(t, 2, r.next(t, id).Made)
	require.Equal(t, want, eventsOf(to.requests()))
	addressPages()
	require.Empty(t, r.planned(t, id), "what was sent gets no row again")
}

// TestARepetitionKeepsTheOrder: what was accepted while an ordered webhook did not subscribe to it gets no row behind what was
// accepted later. A recovery finds it, in its order. What was accepted before a webhook became ordered does.
func TestARepetitionKeepsTheOrder(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	id, direct := r.subscribe(t, to.url, ""), r.subscribe(t, to.url, "")
	r.set(t, id, ordered+", is_active = false")
	missed := r.accepted(t)
	r.set(t, id, "is_active = true")
	later := r.accepted(t)
	r.set(t, direct, ordered+", ordered_from = now() + interval '1 minute'")
	r.accept(t, missed, "run")
	require.Equal(t, 1, r.next(t, id).Made)
	require.Equal(t, []string{later.ID}, eventsOf(to.requests()))
	require.Empty(t, r.planned(t, id))
	r.accept(t, later, "run")
	r.set(t, direct, "ordered_from = NULL")
	require.Equal(t, 2, r.next(t, direct).Made)
	require.Equal(t, []string{missed.ID, later.ID}, eventsOf(to.requests())[1:])
}

// TestAFilterKeepsTheOrder: what it leaves out takes its place in the order, and nothing is sent of it.
func TestAFilterKeepsTheOrder(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	id := r.subscribe(t, to.url, "")
	r.set(t, id, ordered+`, filter = '{"postId": ["p1"]}'`)
	var want []string
	for n := range 6 {
		e := anEvent()
		if n%2 == 0 {
			e.Data = []byte(`{"postId":"p2"}`)
		} else {
			want = append(want, e.ID)
		}
		require.Equal(t, n%2, r.accept(t, e, "run").Queued)
	}
	require.Len(t, r.planned(t, id), 6)
	require.Equal(t, 3, r.next(t, id).Made, "what is left out ends no round")
	require.Equal(t, want, eventsOf(to.requests()))
	require.Empty(t, r.planned(t, id))
}

// TestAFilterHoldsWhenTheOrderEnds: what waits of an ordered webhook, and its filter leaves out, is not sent once it is ordered no more.
func TestAFilterHoldsWhenTheOrderEnds(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	id := r.subscribe(t, to.url, "")
	r.set(t, id, ordered+`, filter = '{"postId": ["p1"]}'`)
	leftOut := anEvent()
	leftOut.Data = []byte(`{"postId":"p2"}`)
	r.accept(t, leftOut, "run")
	want := []string{r.accepted(t).ID}
	no := false
	_, err := db.New().UpdateWebhook(t.Context(), r.pool, db.UpdateWebhookParams{ID: id, BotID: "bot", Ordered: &no, SettleSeconds: history.OrderSettles.Seconds()})
	require.NoError(t, err)
	require.Len(t, r.planned(t, id), 2)
	require.Equal(t, 1, r.next(t, id).Made)
	require.Equal(t, want, eventsOf(to.requests()))
	require.Empty(t, r.planned(t, id))

	// What is accepted later was held against the filter then, and stays.
	r.set(t, id, "queued = true, ordered_until = now() - interval '1 minute'")
	want = append(want, r.accepted(t).ID)
	r.set(t, id, `filter = '{"postId": ["p3"]}'`)
	require.Equal(t, 1, r.next(t, id).Made)
	require.Equal(t, want, eventsOf(to.requests()))
}

// TestOrderWhenTheClockGoesBack: due times say which comes first, and nothing waits until the time that the clock had shown.
func TestOrderWhenTheClockGoesBack(t *testing.T) {
	t.Parallel()
	r, to := newRig(t), newReceiver(t, 200)
	id := r.subscribe(t, to.url, "")
	r.set(t, id, ordered)
	dbtest.SetClock(t, r.pool, time.Hour)
	first := r.accepted(t).ID
	dbtest.SetClock(t, r.pool, 0)
	want := []string{first, r.accepted(t).ID, r.accepted(t).ID}
	require.Equal(t, 3, r.next(t, id).Made)
	require.Equal(t, want, eventsOf(to.requests()))
}
