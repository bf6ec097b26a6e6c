package history

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

func TestRecorder_Close(t *testing.T) {
	t.Parallel()

	t.Run("RecordsWhatIsPending", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		held := begin(t, pool)
		require.NoError(t, db.LockWebhook(t.Context(), held, id))
		recorded := make(chan error)
		go func() {
			_, err := r.Record(context.Background(), outcome(id, true))
			recorded <- err
		}()
		waitsForLock(t, pool, 1)
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			r.Close(context.Background())
		}()
		require.NoError(t, held.Rollback(t.Context()))
		require.NoError(t, <-recorded)
		<-closed
		_, err := r.Record(t.Context(), outcome(id, true))
		require.ErrorIs(t, err, errRecorderClosed)
	})

	t.Run("GivesUpInTime", func(t *testing.T) {
		t.Parallel()
		pool := dbtest.New(t)
		r, _ := newTestRecorder(t, pool)
		id := addWebhook(t, pool)
		held := begin(t, pool)
		require.NoError(t, db.LockWebhook(t.Context(), held, id))
		recorded := make(chan error)
		go func() {
			_, err := r.Record(context.Background(), outcome(id, true))
			recorded <- err
		}()
		waitsForLock(t, pool, 1)
		now, cancel := context.WithCancel(t.Context())
		cancel()
		r.Close(now) // while the lock is held still
		require.ErrorIs(t, <-recorded, errRecorderClosed)
	})
}
