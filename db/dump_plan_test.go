package db_test

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
)

// TestAcceptingReadsNothingThatIsGone: while a long transaction, such as a dump's, keeps what a webhook was sent in the index, neither what
// accepts an event for it, under a lock that ordered webhooks share, nor what finds out whether its queue has to be woken reads all of that.
func TestAcceptingReadsNothingThatIsGone(t *testing.T) {
	t.Parallel()
	conn := planned(t)
	dump, err := pgx.ConnectConfig(t.Context(), conn.Conn().Config())
	require.NoError(t, err)
	defer dump.Close(t.Context()) //nolint:errcheck // it has only read
	_, err = dump.Exec(t.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM queue")
	require.NoError(t, err)
	id := uuid.New()
	for _, statement := range []string{
		fmt.Sprintf(`INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at)
			SELECT '%s', 'sent' || n, 1, 1, 'event', now() - interval '1 hour' + n * interval '50 ms' FROM generate_series(1, 60000) n`, id),
		"DELETE FROM queue", "ANALYZE queue",
	} {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	prepare(t, conn, "unwoken", db.UnwokenSQL)
	prepare(t, conn, "place", "SELECT lock_order(ARRAY[$1::uuid])")
	eachMode(t, conn, func(mode string) {
		for _, execute := range []string{fmt.Sprintf("unwoken ('{%s}', '{9999999}', ARRAY[now()])", id), fmt.Sprintf("place ('%s')", id)} {
			explain(t, conn, execute) // the first of a function reads catalogs as well
			p := explain(t, conn, execute)
			require.LessOrEqual(t, p.blocks(), 50, "%s, %s: %s", execute, mode, p.text)
		}
	})
}
