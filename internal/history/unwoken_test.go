package history

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

// TestUnwoken: of the rows of a webhook at least one wakes its queue, and of many that see each other only the oldest.
func TestUnwoken(t *testing.T) {
	t.Parallel()
	pool := dbtest.New(t)
	id := addWebhook(t, pool)
	insert := func(t *testing.T, conn db.DBTX, event, due string) (seq int64, dueAt time.Time) {
		t.Helper()
		require.NoError(t, conn.QueryRow(t.Context(), `INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
			VALUES ($1, $2, 1, 1, 'event', now() + $3::text::interval) RETURNING seq, due_at`, id, event, due).Scan(&seq, &dueAt))
		return seq, dueAt
	}
	wakes := func(t *testing.T, seq int64, dueAt time.Time) bool {
		t.Helper()
		ids, err := db.New().Unwoken(t.Context(), pool, db.UnwokenParams{WebhookIds: []uuid.UUID{id}, Seqs: []int64{seq}, DueAts: []time.Time{dueAt}})
		require.NoError(t, err)
		return len(ids) > 0
	}

	for name, c := range map[string]struct {
		first, second string
		want          []bool
	}{
		"OldestDueWakes":          {"-1 s", "-1 s", []bool{true, false}},
		"OldestWakesForTheSooner": {"-1 s", "-1 h", []bool{true, false}},
		"SoonerWakesToo":          {"1 h", "1 min", []bool{true, true}},
		"LaterIsSeenInTime":       {"1 min", "1 h", []bool{true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			execute(t, pool, "DELETE FROM queue")
			firstSeq, firstDue := insert(t, pool, "first", c.first)
			secondSeq, secondDue := insert(t, pool, "second", c.second)
			require.Equal(t, c.want, []bool{wakes(t, firstSeq, firstDue), wakes(t, secondSeq, secondDue)})
		})
	}
	t.Run("ManyRowsWakeOnce", func(t *testing.T) {
		execute(t, pool, "DELETE FROM queue")
		var asked db.UnwokenParams
		for i := range 5 {
			seq, due := insert(t, pool, fmt.Sprint(i), "-1 s")
			asked.WebhookIds, asked.Seqs, asked.DueAts = append(asked.WebhookIds, id), append(asked.Seqs, seq), append(asked.DueAts, due)
		}
		ids, err := db.New().Unwoken(t.Context(), pool, asked)
		require.NoError(t, err)
		require.Equal(t, []uuid.UUID{id}, ids)
	})
	for name, firstCommits := range map[string]bool{"OlderCommitsFirst": true, "YoungerCommitsFirst": false} {
		t.Run(name, func(t *testing.T) {
			execute(t, pool, "DELETE FROM queue")
			older, younger := begin(t, pool), begin(t, pool)
			olderSeq, olderDue := insert(t, older, "older", "0")
			youngerSeq, youngerDue := insert(t, younger, "younger", "0")
			if firstCommits {
				require.NoError(t, older.Commit(t.Context()))
				require.True(t, wakes(t, olderSeq, olderDue))
				require.NoError(t, younger.Commit(t.Context()))
				require.False(t, wakes(t, youngerSeq, youngerDue))
				return
			}
			require.NoError(t, younger.Commit(t.Context()))
			require.True(t, wakes(t, youngerSeq, youngerDue), "it does not see the older one")
			require.NoError(t, older.Commit(t.Context()))
			require.True(t, wakes(t, olderSeq, olderDue), "nor can the older one know")
		})
	}
}
