package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/emit/outbox"
	"github.com/mathub/webhooks/webhook"
)

func TestWhatIsCommittedIsEmittedInOrderAndDeleted(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	early := b.insert(t, 0, 250)
	b.start(t, b.relay())
	require.Eventually(t, func() bool { return len(b.ids()) == 250 }, 3*time.Minute, 5*time.Millisecond)
	require.Equal(t, early, b.ids())
	require.Equal(t, []int{100, 100, 50}, b.sizes(), "in three calls")

	// A transaction that is rolled back emits nothing.
	tx, err := b.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, outbox.Insert(t.Context(), tx, webhook.Event{ID: "never", Type: webhook.PostCreated, Data: []byte(`{}`)}))
	require.NoError(t, tx.Rollback(t.Context()))

	// One that is committed is emitted at once: the poll alone would need nearly a second for each that comes just after one.
	best := time.Minute
	for i := range 5 {
		began := time.Now()
		b.insert(t, 1000+i, 1)
		require.Eventually(t, func() bool { return len(b.ids()) == 251+i }, 3*time.Minute, time.Millisecond)
		best = min(best, time.Since(began))
	}
	require.Less(t, best, 500*time.Millisecond)
	require.Eventually(t, func() bool { waiting, aside := b.rows(t); return waiting+aside == 0 }, 3*time.Minute, 5*time.Millisecond)
	require.NotContains(t, b.ids(), "never")
	require.Empty(t, b.log.String())

	// Without the trigger it looks every second.
	_, err = b.Exec(t.Context(), "DROP TRIGGER mathub_outbox_notify ON mathub_outbox")
	require.NoError(t, err)
	b.insert(t, 2000, 1)
	require.Eventually(t, func() bool { return len(b.ids()) == 256 }, 3*time.Minute, 5*time.Millisecond)
}

func TestARowIsEmittedAsItStands(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	_, err := b.Exec(t.Context(), `INSERT INTO mathub_outbox (id, event, data, bot_ids, occurred_at)
		VALUES ('e1', 'mention', '{"z":1.10,"a":"<&>","big":12345678901234567890.5}', '{bot-1,bot-2}', '2025-03-20 11:30:00.1239+01')`)
	require.NoError(t, err)
	_, err = b.Exec(t.Context(), `INSERT INTO mathub_outbox (event, data) VALUES ('post.created', '{}')`)
	require.NoError(t, err)
	accepted, err := drained(b.relay().Drain(t.Context()))
	require.NoError(t, err)
	require.Equal(t, 2, accepted)
	require.Equal(t, webhook.Event{
		ID: "e1", Type: webhook.Mention, Timestamp: "2025-03-20T10:30:00.123Z", BotIDs: []string{"bot-1", "bot-2"},
		Data: []byte(`{"z":1.10,"a":"<&>","big":12345678901234567890.5}`),
	}, b.emitted[0])
	require.True(t, webhook.ValidID(b.emitted[1].ID))
	require.Nil(t, b.emitted[1].BotIDs)
	at, err := webhook.ParseTime(b.emitted[1].Timestamp)
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), at, time.Minute)
}

// TestARowIsReadWhateverTheDatabasesEncoding: what a session of the backend's database has by default would be taken for invalid text.
func TestARowIsReadWhateverTheDatabasesEncoding(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	_, err := b.Exec(t.Context(), `
		INSERT INTO mathub_outbox (id, event, data) VALUES ('e1', 'post.created', '{"body":"Erdős–Szekeres für n ≤ 17"}'), ('e2', 'post.created', '{"body":"für n"}');
		DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || quote_ident(current_database()) || ' SET client_encoding = latin1'; END $$`)
	require.NoError(t, err)
	accepted, err := drained(b.relay().Drain(t.Context()))
	require.NoError(t, err)
	require.Equal(t, 2, accepted)
	require.Equal(t, `{"body":"Erdős–Szekeres für n ≤ 17"}`, string(b.emitted[0].Data))
	require.Equal(t, `{"body":"für n"}`, string(b.emitted[1].Data))
}

func TestARowAtFaultIsSetAsideAndHoldsNothingUp(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.fails = func(e webhook.Event) error {
		if strings.Contains(string(e.Data), "new rule") {
			return &emit.RefusedError{Status: http.StatusUnprocessableEntity, Detail: "breaks\x00 a rule" + strings.Repeat("é", 5000)}
		}
		return nil
	}
	poison := map[string]string{
		"unknown type":    `('p1', 'post.deleted', '{}', NULL, now())`,
		"no object":       `('p2', 'post.created', '[]', NULL, now())`,
		"name twice":      `('p3', 'post.created', '{"a":1,"a":2}', NULL, now())`,
		"half surrogate":  `('p4', 'post.created', '{"a":"\ud800"}', NULL, now())`,
		"bad id":          `('a b', 'post.created', '{}', NULL, now())`,
		"no audience":     `('p6', 'mention', '{}', NULL, now())`,
		"empty audience":  `('p7', 'post.created', '{}', '{}', now())`,
		"null bot":        `('p8', 'post.created', '{}', '{NULL}', now())`,
		"infinite":        `('p9', 'post.created', '{}', NULL, 'infinity')`,
		"far away":        `('p10', 'post.created', '{}', NULL, '20000-01-01')`,
		"huge":            `('p11', 'post.created', ('{"a":"' || repeat('x', 20000000) || '"}')::json, NULL, now())`,
		"huge as it lies": `('p13', 'post.created', (SELECT '{"a":"' || string_agg(md5(n::text), '') || '"}' FROM generate_series(1, 20000) AS n)::json, NULL, now())`,
		"huge id":         `(repeat('x', 20000000), 'post.created', '{}', NULL, now())`,
		"huge audience":   `('p15', 'post.created', '{}', array_fill('b'::text, ARRAY[1000000]), now())`,
		"refused by them": `('p12', 'post.created', '{"a":"new rule"}', NULL, now())`,
	}
	for name, values := range poison {
		_, err := b.Exec(t.Context(), "INSERT INTO mathub_outbox (id, event, data, bot_ids, occurred_at) VALUES "+values)
		require.NoError(t, err, name)
	}
	good := b.insert(t, 0, 3)
	accepted, err := drained(b.relay().Drain(t.Context()))
	require.NoError(t, err)
	require.Equal(t, 3, accepted)
	require.Equal(t, good, b.ids())
	waiting, aside := b.rows(t)
	require.Equal(t, []int{0, len(poison)}, []int{waiting, aside})
	rows, err := b.Query(t.Context(), "SELECT error FROM mathub_outbox")
	require.NoError(t, err)
	faults, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, fault := range faults {
		require.NotEmpty(t, fault)
		require.LessOrEqual(t, len(fault), 2000)
	}
	require.Equal(t, len(poison), strings.Count(b.log.String(), "set aside"))

	// As the schema's comment says it is tried again.
	_, err = b.Exec(t.Context(), `UPDATE mathub_outbox SET event = 'post.created', failed_at = NULL, error = NULL WHERE id = 'p1'`)
	require.NoError(t, err)
	accepted, err = drained(b.relay().Drain(t.Context()))
	require.NoError(t, err)
	require.Equal(t, 1, accepted)

	require.Error(t, outbox.Insert(t.Context(), b, webhook.Event{Type: webhook.Mention, Data: []byte(`{}`)}), "Insert finds it out")
}

// What comes while it drains is left to the next: else it would never end where rows come faster than they are emitted.
func TestRelay_Drain_EndsWithTheRowsThatWereThere(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	there, later := b.insert(t, 0, 3), 1000
	b.fails = func(webhook.Event) error {
		if later < 1010 {
			later++
			b.insert(t, later, 1)
		}
		return nil
	}
	accepted, err := drained(b.relay().Drain(t.Context()))
	require.NoError(t, err)
	require.Equal(t, 3, accepted)
	require.Equal(t, there, b.ids())
	waiting, _ := b.rows(t)
	require.Equal(t, 3, waiting)
}

// Each of three relays takes its part; none takes what another has.
func TestRelaysShareTheWork(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	want := b.insert(t, 0, 900)
	var begun sync.WaitGroup // none is done before each has its part
	begun.Add(3)
	for i := range 3 {
		begin := sync.OnceFunc(begun.Done)
		relay := b.relay()
		relay.AtOnce = 1 + i
		relay.Emit = func(ctx context.Context, events []webhook.Event) ([]emit.Receipt, error) {
			begin()
			begun.Wait()
			return b.emit(ctx, events)
		}
		b.start(t, relay)
	}
	require.Eventually(t, func() bool { return len(b.ids()) >= 900 }, 3*time.Minute, 5*time.Millisecond)
	require.Eventually(t, func() bool { waiting, _ := b.rows(t); return waiting == 0 }, 3*time.Minute, 5*time.Millisecond)
	require.ElementsMatch(t, want, b.ids(), "once each")
}

// What may pass holds the outbox up, in order, and is never set aside: the service away, a wrong token, a lost database.
func TestTroubleIsWaitedOut(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]error{
		"no answer":   errors.New("connection refused"),
		"away":        &emit.RefusedError{Status: 503, RetryAfter: 2 * time.Second},
		"wrong token": &emit.RefusedError{Status: 401, Detail: "The service token is not valid."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBackend(t)
			want := b.insertOf(t, 0, 20, 100_000) // ten to a call
			var attempts []time.Time
			b.fails = func(e webhook.Event) error {
				if e.ID >= "e00010" && len(attempts) < 3 {
					attempts = append(attempts, time.Now())
					return trouble
				}
				return nil
			}
			_, err := drained(b.relay().Drain(t.Context()))
			require.ErrorIs(t, err, trouble)
			require.Equal(t, want[:10], b.ids(), "what was accepted before is kept")
			require.Equal(t, []int{10, 10}, b.sizes())
			waiting, _ := b.rows(t)
			require.Equal(t, 10, waiting)

			b.start(t, b.relay())
			require.Eventually(t, func() bool { return len(b.ids()) == 20 }, 3*time.Minute, 5*time.Millisecond)
			require.Equal(t, want, b.ids(), "and never emitted again")
			pause := 750 * time.Millisecond
			if name == "away" {
				pause = 2 * time.Second // as it asked for
			}
			require.GreaterOrEqual(t, attempts[2].Sub(attempts[1]), pause)
			require.Contains(t, b.log.String(), "emitting from the outbox failed")
		})
	}
	t.Run("lost database", func(t *testing.T) {
		t.Parallel()
		b := newBackend(t)
		want := b.insert(t, 0, 20)
		var once sync.Once
		b.fails = func(e webhook.Event) error {
			if e.ID == "e00010" {
				once.Do(func() {
					_, err := b.Exec(context.Background(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()")
					require.NoError(t, err)
				})
			}
			return nil
		}
		b.start(t, b.relay())
		require.Eventually(t, func() bool {
			waiting, _, err := b.count(t.Context()) // its own connection may be the one that is lost
			return err == nil && waiting == 0
		}, 3*time.Minute, 5*time.Millisecond)
		require.Subset(t, b.ids(), want)
		require.Len(t, b.ids(), 40, "emitted again, with the same ids")
	})
}

// TestStoppingFinishesWhatIsUnderWay: what was accepted is deleted; what hangs is given up after 5 s.
func TestStoppingFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.insertOf(t, 0, 8, 250_000) // four to a call
	begun := make(chan struct{}, 5)
	relay := b.relay()
	relay.Emit = func(ctx context.Context, events []webhook.Event) ([]emit.Receipt, error) {
		begun <- struct{}{}
		time.Sleep(300 * time.Millisecond) // a call that is in progress when the relay is stopped
		return b.emit(ctx, events)
	}
	stop := b.start(t, relay)
	<-begun
	require.Less(t, stop(), 2*time.Second)
	require.Equal(t, []string{"e00000", "e00001", "e00002", "e00003"}, b.ids())
	waiting, _ := b.rows(t)
	require.Equal(t, 4, waiting)

	relay = b.relay()
	relay.Emit = func(ctx context.Context, _ []webhook.Event) ([]emit.Receipt, error) {
		begun <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	stop = b.start(t, relay)
	<-begun
	require.InDelta(t, 5, stop().Seconds(), 2)
	waiting, _ = b.rows(t)
	require.Equal(t, 4, waiting)

	require.ErrorContains(t, (&outbox.Relay{URL: "nonsense"}).Run(t.Context()), "outbox URL")
}

// TestTransactionsThatCommitOutOfOrderAreNotSkipped: a row whose transaction commits late, after others with higher
// numbers were emitted, is emitted too.
func TestTransactionsThatCommitOutOfOrderAreNotSkipped(t *testing.T) {
	t.Parallel()
	b := newBackend(t)
	b.start(t, b.relay())
	const writers, each = 8, 40
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				err := pgx.BeginFunc(context.Background(), b.Pool, func(tx pgx.Tx) error {
					e := webhook.Event{ID: fmt.Sprintf("w%d-%d", w, i), Type: webhook.PostCreated, Data: []byte(`{}`)}
					err := outbox.Insert(context.Background(), tx, e)
					time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond) // so that others commit in between
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	require.Eventually(t, func() bool { waiting, _ := b.rows(t); return waiting == 0 }, 3*time.Minute, 5*time.Millisecond)
	ids := b.ids()
	require.Len(t, ids, writers*each)
	seen := map[string]bool{}
	for _, id := range ids {
		seen[id] = true
	}
	require.Len(t, seen, writers*each)
}
