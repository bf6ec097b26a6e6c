package history

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

func newRemover(t *testing.T) *Remover {
	return &Remover{Pool: dbtest.New(t), Retention: webhook.Retention(29 * 24 * time.Hour), Schedule: webhook.DefaultSchedule}
}

// remove runs removals until one is done.
func (r *Remover) remove(t testing.TB, before time.Time) (all Removal) {
	t.Helper()
	all.Before = before
	for steps := 0; !all.Done; steps++ {
		require.Less(t, steps, 200, "it goes on for ever")
		var err error
		all, err = r.RemoveExpired(t.Context(), all)
		require.NoError(t, err)
	}
	return all
}

// TestRemover_RemoveExpired_ByPostgresClock: a process whose clock is 40 days ahead removes nothing that is kept, nor does any while
// Postgres's is, as of a standby that was promoted.
func TestRemover_RemoveExpired_ByPostgresClock(t *testing.T) {
	t.Parallel()
	r := newRemover(t)
	dbtest.SetClock(t, r.Pool, -40*24*time.Hour)
	addEvent(t, r.Pool, "kept", 24*time.Hour)
	addEvent(t, r.Pool, "expired", 31*24*time.Hour)
	require.Equal(t, 1, r.remove(t, time.Time{}).Events)
	require.Equal(t, 1, count(t, r.Pool, "events WHERE id = 'kept'"))
	require.Zero(t, r.remove(t, time.Now()).Events, "nor what is asked for by its clock")
	execute(t, r.Pool, "UPDATE events SET accepted_at = $1", time.Now().Add(-24*time.Hour))
	dbtest.SetClock(t, r.Pool, 40*24*time.Hour)
	require.Zero(t, r.remove(t, time.Time{}).Events)
}

// TestRemover_RemoveExpired: only what is expired is removed, while deliveries go on as quickly as before.
func TestRemover_RemoveExpired(t *testing.T) {
	t.Parallel()
	r := newRemover(t)
	recorder, _ := newTestRecorder(t, r.Pool)
	hook := addWebhook(t, r.Pool)
	// 50,000 events of 60 days, four deliveries each, of webhooks that have long gone. All times are from one clock's reading:
	// none comes by the time that the statements take to be between an event and its deliveries.
	now := time.Now()
	before := now.Add(-30 * 24 * time.Hour)
	execute(t, r.Pool, `INSERT INTO events (id, type, payload, run_id, accepted_at)
		SELECT 'e' || n, 'post.created', '{}', 'r', $1::timestamptz - n * interval '104 seconds' FROM generate_series(1, 50000) n`, now)
	execute(t, r.Pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
		SELECT `+dbtest.DeliveryID("$1::timestamptz - n * interval '104 seconds'")+`, md5((w * 1000 + n % 1000)::text)::uuid, 'e' || n, 1, true, 1, $1::timestamptz - n * interval '104 seconds' + interval '1 second'
		FROM generate_series(1, 50000) n, generate_series(1, 4) w`, now)
	execute(t, r.Pool, "VACUUM ANALYZE events, deliveries")
	// One of the oldest deliveries is being removed by someone else, who is not waited for.
	other := begin(t, r.Pool)
	_, err := other.Exec(t.Context(), "SELECT id FROM deliveries WHERE event_id = 'e49999' LIMIT 1 FOR UPDATE")
	require.NoError(t, err)

	const young = `SELECT (SELECT count(*) FROM events WHERE accepted_at >= $1), (SELECT count(*) FROM deliveries WHERE attempted_at >= $1)`
	const old = `SELECT (SELECT count(*) FROM events WHERE accepted_at < $1), (SELECT count(*) FROM deliveries WHERE attempted_at < $1)`
	count := func(query string) (events, deliveries int) {
		require.NoError(t, r.Pool.QueryRow(t.Context(), query, before).Scan(&events, &deliveries))
		return events, deliveries
	}
	youngEvents, youngDeliveries := count(young)
	oldEvents, oldDeliveries := count(old)

	record := func() time.Duration {
		began := time.Now()
		_, err := recorder.Record(t.Context(), outcome(hook, true))
		require.NoError(t, err)
		return time.Since(began)
	}
	measure := func(until <-chan struct{}, least int) (took []time.Duration) {
		for {
			select {
			case <-until:
				if len(took) >= least {
					slices.Sort(took)
					return took
				}
			default:
			}
			took = append(took, record())
			time.Sleep(2 * time.Millisecond) // the rate of the recordings
		}
	}
	atOnce := make(chan struct{})
	close(atOnce)
	alone := measure(atOnce, 300)
	ended := make(chan struct{})
	var removed Removal
	go func() {
		defer close(ended)
		removed = r.remove(t, before)
	}()
	meanwhile := measure(ended, 0)
	t.Logf("recording alone: median %v, of %d; while %d events and %d deliveries were removed: median %v, 99th of a hundred %v, longest %v, of %d",
		alone[len(alone)/2], len(alone), removed.Events, removed.Deliveries, meanwhile[len(meanwhile)/2], meanwhile[len(meanwhile)*99/100], meanwhile[len(meanwhile)-1], len(meanwhile))
	require.Greater(t, len(meanwhile), 20, "something waited for the removal, which is of hundreds of statements")

	require.Equal(t, oldEvents-1, removed.Events)
	require.Equal(t, oldDeliveries-1, removed.Deliveries, "all but the one that another holds")
	events, deliveries := count(young)
	require.Equal(t, youngEvents, events)
	require.Equal(t, youngDeliveries+len(alone)+len(meanwhile), deliveries, "nothing younger is removed")
	require.NoError(t, other.Rollback(t.Context()))
	again := r.remove(t, before)
	require.Equal(t, 1, again.Events)
	require.Equal(t, 1, again.Deliveries, "left for the next time")
}

// TestRemover_RemoveExpired_LargeEvent: it is removed bit by bit, as its deliveries are many statements' work.
func TestRemover_RemoveExpired_LargeEvent(t *testing.T) {
	t.Parallel()
	r := newRemover(t)
	execute(t, r.Pool, "INSERT INTO events (id, type, payload, run_id, accepted_at) VALUES ('large', 'post.created', '{}', 'r', now() - interval '31 days')")
	execute(t, r.Pool, `INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, duration_ms, attempted_at)
		SELECT `+dbtest.DeliveryID("now() - interval '31 days'")+`, gen_random_uuid(), 'large', 1, true, 1, now() - interval '31 days' FROM generate_series(1, 10 * $1::integer + 5)`, removalRows)
	removed := r.remove(t, time.Now().Add(-30*24*time.Hour))
	require.Equal(t, Removal{Before: removed.Before, After: removed.After, Events: 1, Deliveries: 10*removalRows + 5, Done: true}, removed)
}

// TestRemover_RemoveExpired_ByHand: whatever is asked for, only what the configuration lets go is removed.
func TestRemover_RemoveExpired_ByHand(t *testing.T) {
	t.Parallel()
	r := newRemover(t)
	execute(t, r.Pool, "INSERT INTO events (id, type, payload, run_id, accepted_at) VALUES ('waits', 'post.created', '{}', 'r', now() - interval '30 hours'), ('kept', 'post.created', '{}', 'r', now() - interval '10 days'), ('old', 'post.created', '{}', 'r', now() - interval '31 days')")
	left := func() (ids []string) {
		require.NoError(t, r.Pool.QueryRow(t.Context(), "SELECT array_agg(id ORDER BY id) FROM events").Scan(&ids))
		return ids
	}
	r.Retention = 0
	require.Equal(t, Removal{Done: true}, r.remove(t, time.Now()), "for ever")
	r.Retention = webhook.DefaultRetention
	for _, before := range []time.Time{time.Now().Add(-4 * 24 * time.Hour), time.Now(), time.Now().Add(24 * time.Hour), {}} {
		removed := r.remove(t, before)
		require.WithinDuration(t, time.Now().Add(-30*24*time.Hour-removalGrace), removed.Before, time.Minute)
		require.Equal(t, []string{"kept", "waits"}, left())
	}
	r.Retention = webhook.Retention(time.Hour) // less than the schedule takes, as no configuration may be
	r.remove(t, time.Time{})
	require.Equal(t, []string{"waits"}, left(), "it may still be attempted")
}
