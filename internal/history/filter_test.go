package history

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/webhook"
)

// addPosts adds that many events, named post-1 and so on, a second apart until an hour ago. The data of each has its number and the
// remainder by 3.
func addPosts(t testing.TB, pool *pgxpool.Pool, n, size int) {
	t.Helper()
	execute(t, pool, `INSERT INTO events (id, type, payload, run_id, accepted_at)
		SELECT 'post-' || n, 'post.created', convert_to('{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"pad":"' || repeat('x', $2::int) || '","postId":"p' || n || '","threadId":"t' || n % 3 || '"}}', 'UTF8'),
			'run', now() - make_interval(secs => 3600 + $1::int - n) FROM generate_series(1, $1::int) n`, n, size)
}

func TestRecoveriesKeepToTheFilter(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	queue, reader := Queue{Pool: pool}, Reader{Pool: pool}
	id := addWebhook(t, pool)
	addPosts(t, pool, 2*filteredPage+10, 0)
	missed := func() Missed {
		t.Helper()
		m, err := reader.Missed(t.Context(), lastDay(id), 2)
		require.NoError(t, err)
		require.False(t, m.More)
		return m
	}
	require.Equal(t, 2*filteredPage+10, missed().Count)
	execute(t, pool, `UPDATE webhooks SET filter = '{"threadId":["t1"],"postId":["p1","p2","p4","p301","p508"]}'`)
	m := missed()
	require.Equal(t, 4, m.Count)
	require.Equal(t, []string{"post-1", "post-4"}, []string{m.Events[0].ID, m.Events[1].ID})

	startRecovery(t, queue, lastDay(id))
	var planned []string
	for len(planned) < 4 {
		step := recoverPage(t, queue, id)
		require.False(t, step.Ended, "%v of %v", planned, step)
		planned = nil
		for _, row := range queueOf(t, pool, id) {
			planned = append(planned, row.EventID)
		}
	}
	require.ElementsMatch(t, []string{"post-1", "post-4", "post-301", "post-508"}, planned)
	require.Zero(t, missed().Count, "the rest is not missed")
	for !latest(t, pool, id).LookedThrough {
		recoverPage(t, queue, id)
	}
	require.Equal(t, int32(4), latest(t, pool, id).Found)
	require.Equal(t, 4, count(t, pool, "queue"))
}

// TestLeaveOut: what events say is read in parts, and only so much of it where a person waits.
func TestLeaveOut(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	reader := Reader{Pool: pool}
	id := addWebhook(t, pool)
	const posts = 190
	addPosts(t, pool, posts, 200<<10) // 38 MB
	execute(t, pool, `UPDATE webhooks SET filter = '{"threadId":["t1"]}'`)
	m, err := reader.Missed(t.Context(), lastDay(id), 1)
	require.NoError(t, err)
	require.True(t, m.More)
	require.Less(t, m.Until, time.Now().Add(-time.Hour))
	judged := count(t, pool, "events WHERE accepted_at <= $1", m.Until)
	require.InDelta(t, mostJudged/(200<<10), judged, payloadBytes/(200<<10)+1)
	require.Equal(t, (judged+2)/3, m.Count)

	execute(t, pool, "DELETE FROM events WHERE id IN ('post-1', 'post-40')")
	ids := make([]string, posts)
	for i := range ids {
		ids[i] = fmt.Sprintf("post-%d", i+1)
	}
	seen := map[int]string{}
	whole, err := eachPayload(t.Context(), pool, ids, 1<<40, func(n int, payload []byte) {
		require.NotContains(t, seen, n)
		seen[n] = string(payload[len(payload)-40:])
	})
	require.NoError(t, err)
	require.True(t, whole)
	require.Len(t, seen, posts-2, "what is gone is left out")
	for n, end := range seen {
		require.Contains(t, end, fmt.Sprintf(`"postId":"p%d"`, n+1))
	}
}

func TestReader_Preview(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	reader := Reader{Pool: pool}
	addWebhook(t, pool)
	preview := func(filter string, types ...string) Preview {
		t.Helper()
		f, err := webhook.ParseFilter([]byte(filter))
		require.NoError(t, err)
		p, err := reader.Preview(t.Context(), "bot", types, f)
		require.NoError(t, err)
		return p
	}
	require.Equal(t, Preview{}, preview(`{}`, "post.created"))
	addPosts(t, pool, 150, 0)
	require.Equal(t, Preview{100, 34}, preview(`{"threadId":["t0"]}`, "post.created", "mention"), "of the last hundred")
	require.Equal(t, Preview{100, 100}, preview(`{}`, "post.created"))
	require.Equal(t, Preview{100, 0}, preview(`{"postId":["p50"]}`, "post.created"), "it came before these")
	require.Equal(t, Preview{}, preview(`{}`, "mention"))
	execute(t, pool, "UPDATE events SET bot_ids = '{other}' WHERE id <> 'post-7'")
	require.Equal(t, Preview{1, 1}, preview(`{"postId":["p7"]}`, "post.created"), "others' events are not looked at")
}
