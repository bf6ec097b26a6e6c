package db_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

func insertEvent(t testing.TB, conn db.DBTX, id string) {
	t.Helper()
	inserted, err := db.New().InsertEvents(context.Background(), conn, anEvent(id, []byte(`{"id":"`+id+`"}`)))
	require.NoError(t, err)
	require.Len(t, inserted, 1)
	require.Equal(t, id, inserted[0].ID)
}

func anEvent(id string, payload []byte) db.InsertEventsParams {
	return db.InsertEventsParams{
		Ids: []string{id}, Types: []string{"post.created"}, Payloads: [][]byte{payload}, Bots: []string{""}, Places: []int32{0}, RunID: "019ab2f0-5a3e-7c1d-8f00-3b6d2a9c4e71",
	}
}

// read pages through the log from a position on, 0 for the oldest, as a client that asks again while there is more.
func read(t testing.TB, log *db.EventReader, after int64, limit int) (ids []string, upto int64) {
	t.Helper()
	for {
		state, err := log.State(context.Background(), 0)
		require.NoError(t, err)
		page, err := log.Page(context.Background(), state, db.LogQuery{BotID: "bot", After: max(after, state.Removed), Limit: limit})
		require.NoError(t, err)
		for _, e := range page.Events {
			ids = append(ids, e.ID)
		}
		after = page.Upto
		if !page.More {
			return ids, after
		}
	}
}

func begin(t testing.TB, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// TestEventsCommittedOutOfOrderAreAllRead: the one inserted first, with the lower transaction id, sequence number and
// time, is committed last, after others were read.
func TestEventsCommittedOutOfOrderAreAllRead(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	log := db.NewEventReader(pool)
	first, second, undone := begin(t, pool), begin(t, pool), begin(t, pool)
	insertEvent(t, first, "first")
	insertEvent(t, second, "second")
	insertEvent(t, undone, "undone")
	insertEvent(t, pool, "third")
	ids, upto := read(t, log, 0, 10)
	require.Equal(t, []string{"third"}, ids, "what is under way holds nothing up")
	require.NoError(t, second.Commit(t.Context()))
	ids, upto = read(t, log, upto, 10)
	require.Equal(t, []string{"second"}, ids)
	require.NoError(t, undone.Rollback(t.Context()))
	require.NoError(t, first.Commit(t.Context()))
	ids, _ = read(t, log, upto, 10)
	require.Equal(t, []string{"first"}, ids)
	again, _ := read(t, db.NewEventReader(pool), 0, 1)
	require.Equal(t, []string{"third", "second", "first"}, again, "everyone reads the same order")
}

// TestAnEventCommittedLongAfterItsInsertionIsRead although looks at the last minute go past it.
func TestAnEventCommittedLongAfterItsInsertionIsRead(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	log := db.NewEventReader(pool)
	_, upto := read(t, log, 0, 10)
	insertEvent(t, pool, "late")
	_, err := pool.Exec(t.Context(), "UPDATE events SET accepted_at = now() - interval '1 hour'")
	require.NoError(t, err)
	insertEvent(t, pool, "on time")
	ids, upto := read(t, log, upto, 10)
	require.Equal(t, []string{"on time"}, ids)
	require.Eventually(t, func() bool {
		ids, upto = read(t, log, upto, 10)
		return len(ids) > 0
	}, time.Minute, 100*time.Millisecond)
	require.Equal(t, []string{"late"}, ids)
}

// TestOtherTransactionsHoldNothingUp: not a snapshot that is kept for hours, as a dump's, nor one that has written, in
// this database or another of the cluster.
func TestOtherTransactionsHoldNothingUp(t *testing.T) {
	t.Parallel()
	pool, elsewhere := dbtest.New(t), dbtest.New(t)
	for _, p := range []*pgxpool.Pool{pool, elsewhere} {
		tx, err := p.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
		_, err = tx.Exec(t.Context(), "INSERT INTO bots (id, name) VALUES ('b', 'b')")
		require.NoError(t, err)
		var n int
		require.NoError(t, tx.QueryRow(t.Context(), "SELECT count(*) FROM events").Scan(&n))
	}
	log := db.NewEventReader(pool)
	after := int64(0)
	for i := range 20 {
		id := fmt.Sprint(i)
		insertEvent(t, pool, id)
		var ids []string
		began := time.Now()
		ids, after = read(t, log, after, 10)
		require.Equal(t, []string{id}, ids)
		require.Less(t, time.Since(began), 5*time.Second)
	}
}

// TestNothingIsSkippedWhateverTheOrderOfCommits: writers whose transactions stay open for random times and are now and
// then undone, and readers in several processes that page on while they do.
func TestNothingIsSkippedWhateverTheOrderOfCommits(t *testing.T) {
	t.Parallel()
	const writers, each, readers = 8, 60, 4
	pool := dbtest.New(t)
	var mu sync.Mutex
	committed := map[string]bool{}
	writing, done := context.WithCancel(t.Context())
	defer done()
	var write, reading sync.WaitGroup
	for w := range writers {
		write.Go(func() {
			random := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range each {
				tx, err := pool.Begin(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				var ids []string
				for k := range 1 + random.IntN(3) {
					id := fmt.Sprintf("%d-%d-%d", w, i, k)
					if _, err := db.New().InsertEvents(t.Context(), tx, anEvent(id, []byte("{}"))); err != nil {
						t.Error(err)
						return
					}
					ids = append(ids, id)
					time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond) // so that others commit in between
				}
				if random.IntN(5) == 0 {
					_ = tx.Rollback(t.Context())
					continue
				}
				if err := tx.Commit(t.Context()); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				for _, id := range ids {
					committed[id] = true
				}
				mu.Unlock()
			}
		})
	}
	orders := make([][]string, readers)
	for r := range readers {
		log := db.NewEventReader(pool) // as in a process of its own
		reading.Go(func() {
			for after := int64(0); ; {
				last := writing.Err() != nil
				ids, upto := read(t, log, after, 1+r*3)
				orders[r], after = append(orders[r], ids...), upto
				if last {
					return
				}
				time.Sleep(time.Duration(1+r) * time.Millisecond) // each reader at a rate of its own
			}
		})
	}
	write.Wait()
	done()
	reading.Wait()
	require.Len(t, orders[0], len(committed))
	for _, id := range orders[0] {
		require.True(t, committed[id], id)
	}
	for _, order := range orders {
		require.Equal(t, orders[0], order)
	}
	numbers, out := map[string]int{}, 0
	for i, id := range orders[0] {
		numbers[id] = i
	}
	require.Len(t, numbers, len(orders[0]), "each once")
	rows, err := pool.Query(t.Context(), "SELECT id FROM events ORDER BY accepted_at, id")
	require.NoError(t, err)
	begun, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for i := 1; i < len(begun); i++ {
		if numbers[begun[i]] < numbers[begun[i-1]] {
			out++
		}
	}
	require.Positive(t, out, "transactions did commit out of order, or this proves nothing")
}

func TestABotReadsWhatConcernsIt(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	log := db.NewEventReader(pool)
	_, err := db.New().InsertEvents(t.Context(), pool, db.InsertEventsParams{
		Ids:   []string{"all", "mine", "another's", "a test", "wiki"},
		Types: []string{"post.created", "mention", "mention", "test", "wiki.edited"},
		Bots:  []string{"", "{other,bot}", "{other}", "", ""}, Payloads: slices.Repeat([][]byte{[]byte("{}")}, 5), Places: []int32{0, 1, 2, 3, 4}, RunID: "run",
	})
	require.NoError(t, err)
	ids, upto := read(t, log, 0, 2)
	require.Equal(t, []string{"all", "mine", "wiki"}, ids)
	state, err := log.State(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, state.Removed+5, upto)
	page, err := log.Page(t.Context(), state, db.LogQuery{BotID: "bot", Types: []string{"wiki.edited", "mention"}, After: state.Removed, Limit: 1})
	require.NoError(t, err)
	require.Len(t, page.Events, 1)
	require.Equal(t, "mine", page.Events[0].ID)
	require.True(t, page.More)
	audiences, err := log.Audiences(t.Context(), state.Removed, state.Last, 3)
	require.NoError(t, err)
	require.Len(t, audiences, 3)
	require.Equal(t, []string{"other", "bot"}, audiences[1].BotIds)
}

// TestAPageIsBounded by bytes, and by what it goes through without finding anything.
func TestAPageIsBounded(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	log := db.NewEventReader(pool)
	_, err := pool.Exec(t.Context(), `INSERT INTO events (id, type, payload, run_id, accepted_at)
		SELECT 'large-' || n, 'post.created', convert_to(repeat(md5(n::text), 8000), 'UTF8'), 'run', now() - interval '2 days' + n * interval '1 s' FROM generate_series(1, 20) n`)
	require.NoError(t, err)
	state, err := log.State(t.Context(), time.Minute)
	require.NoError(t, err)
	page, err := log.Page(t.Context(), state, db.LogQuery{BotID: "bot", After: state.Removed, Limit: 100})
	require.NoError(t, err)
	require.Len(t, page.Events, 4, "4 × 256,000 bytes are a MiB")
	require.True(t, page.More)
	ids, after := read(t, log, 0, 100)
	require.Len(t, ids, 20)

	_, err = pool.Exec(t.Context(), `INSERT INTO events (id, type, payload, run_id, bot_ids, accepted_at)
		SELECT 'n' || n, 'mention', '{}', 'run', CASE WHEN n = 70000 THEN '{bot}' ELSE '{other}' END::text[], now() - interval '1 day' + n * interval '1 ms' FROM generate_series(1, 70000) n`)
	require.NoError(t, err)
	state, err = db.NewEventReader(pool).State(t.Context(), time.Minute)
	require.NoError(t, err)
	require.False(t, state.Behind)
	page, err = log.Page(t.Context(), state, db.LogQuery{BotID: "bot", After: after, Limit: 100})
	require.NoError(t, err)
	require.Empty(t, page.Events)
	require.True(t, page.More)
	require.EqualValues(t, after+50_000, page.Upto)
	ids, _ = read(t, log, after, 100)
	require.Equal(t, []string{"n70000"}, ids)
}

func TestWhatIsRemovedIsKnownToBeMissed(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	log := db.NewEventReader(pool)
	state := func() db.LogState {
		t.Helper()
		s, err := log.State(t.Context(), 0)
		require.NoError(t, err)
		return s
	}
	remove := func(ids ...string) {
		t.Helper()
		_, err := pool.Exec(t.Context(), "DELETE FROM events WHERE id = ANY ($1)", ids)
		require.NoError(t, err)
	}
	remove("nothing")
	first := state().Last
	require.Equal(t, db.LogState{Removed: first, Last: first}, state())
	for _, id := range []string{"a", "b", "c"} {
		insertEvent(t, pool, id)
	}
	require.Equal(t, db.LogState{Removed: first, Last: first + 3}, state())
	remove("a", "b")
	require.Equal(t, db.LogState{Removed: first + 2, Last: first + 3}, state())
	insertEvent(t, pool, "never read")
	remove("never read")
	require.Equal(t, db.LogState{Removed: first + 4, Last: first + 4}, state(), "who had read up to the third has missed it")
	insertEvent(t, pool, "d")
	ids, upto := read(t, log, first+4, 10)
	require.Equal(t, []string{"d"}, ids)
	require.Equal(t, first+5, upto)
}

// TestACursorOfALogThatWasTakenBackIsKnownToBeOld: the log made again has positions for the same events, and in another
// order maybe.
func TestACursorOfALogThatWasTakenBackIsKnownToBeOld(t *testing.T) {
	t.Parallel()
	url := dbtest.NewURL(t)
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	defer pool.Close()
	insertEvent(t, pool, "a")
	insertEvent(t, pool, "b")
	ids, cursor := read(t, db.NewEventReader(pool), 0, 10)
	require.Equal(t, []string{"a", "b"}, ids)
	_, err = db.MigrateDown(t.Context(), url)
	require.NoError(t, err)
	_, err = db.Migrate(t.Context(), url)
	require.NoError(t, err)
	insertEvent(t, pool, "b")
	insertEvent(t, pool, "a")
	log := db.NewEventReader(pool)
	state, err := log.State(t.Context(), 0)
	require.NoError(t, err)
	require.Greater(t, state.Removed, cursor)
	require.Less(t, state.Last, int64(1)<<53, "whoever reads a cursor as a number of JavaScript keeps it")
	ids, _ = read(t, log, 0, 10)
	require.Equal(t, []string{"b", "a"}, ids)
}

// TestPagesAreReadFromTheIndex, whether Postgres plans for the very arguments or for any.
func TestPagesAreReadFromTheIndex(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO events (id, type, payload, run_id) SELECT 'e' || n, 'post.created', '{}', 'run' FROM generate_series(1, 20000) n`)
	require.NoError(t, err)
	state, err := db.NewEventReader(pool).State(t.Context(), time.Minute)
	require.NoError(t, err)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "VACUUM ANALYZE events")
	require.NoError(t, err)
	for name, sql := range map[string]string{"page": db.ReadEventsSQL, "state": db.EventLogStateSQL, "mark": db.MarkOfSQL} {
		_, err = conn.Conn().Prepare(t.Context(), name, sql)
		require.NoError(t, err)
	}
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		_, err := conn.Exec(t.Context(), "SET plan_cache_mode = "+mode)
		require.NoError(t, err)
		for _, execute := range []string{
			fmt.Sprintf("page (%d, %d, 'bot', NULL, 51, 1000000)", state.Last-10000, state.Last-5000),
			fmt.Sprintf("page (%d, %d, 'bot', '{mention}', 51, 1000000)", state.Last-10, state.Last), "state (true)", "state (false)", fmt.Sprintf("mark (%d)", state.Last),
		} {
			rows, err := conn.Query(t.Context(), "EXPLAIN (ANALYZE, BUFFERS) EXECUTE "+execute, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			plan := strings.Join(lines, "\n")
			require.NotContains(t, plan, "Seq Scan on events ", plan)
			require.True(t, slices.ContainsFunc(lines, func(line string) bool {
				return strings.Contains(line, "events_position") || strings.Contains(line, "events_unnumbered")
			}), plan)
		}
	}
}
