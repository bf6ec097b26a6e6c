package db_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/db/dbtest"
)

// BenchmarkInsertEvent compares the insert that every event makes with what it was before events had positions, one by
// the other, as the machine's other work would weigh on one of them only.
func BenchmarkInsertEvent(b *testing.B) {
	payload := []byte(`{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"body":"` + strings.Repeat("x", 300) + `"}}`)
	names := []string{"with", "without"}
	conns := make([]*pgxpool.Conn, len(names))
	for i, change := range []string{"SELECT", "DROP INDEX events_position, events_unnumbered; DROP TRIGGER events_removed ON events; ALTER TABLE events DROP COLUMN position"} {
		conn, err := dbtest.New(b).Acquire(b.Context())
		require.NoError(b, err)
		defer conn.Release()
		// The disk's time would hide what is asked.
		_, err = conn.Exec(b.Context(), change+"; SET synchronous_commit = off", pgx.QueryExecModeSimpleProtocol)
		require.NoError(b, err)
		conns[i] = conn
	}
	written := func(conn *pgxpool.Conn) (bytes int64) {
		require.NoError(b, conn.QueryRow(b.Context(), "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn").Scan(&bytes))
		return bytes
	}
	took := make([][]time.Duration, len(names))
	n := 0
	for b.Loop() {
		n++
		for i, conn := range conns {
			began := time.Now()
			_, err := db.New().InsertEvents(b.Context(), conn, anEvent(fmt.Sprintf("019ab2f0-5a3e-7c1d-8f00-%012d", n), payload))
			took[i] = append(took[i], time.Since(began))
			require.NoError(b, err)
		}
	}
	medians := make([]float64, len(names))
	for i, name := range names {
		slices.Sort(took[i])
		medians[i] = float64(took[i][len(took[i])/2].Nanoseconds())
		b.ReportMetric(medians[i], name+"-ns")
		before := written(conns[i])
		for k := range 100 {
			insertEvent(b, conns[i], fmt.Sprintf("019ab2f0-5a3e-7c1d-8f01-%012d", k))
		}
		b.ReportMetric(float64(written(conns[i])-before)/100, name+"-WALbytes")
	}
	b.ReportMetric(medians[0]/medians[1], "ratio")
}

// BenchmarkNumberEvents is what giving positions costs an event, where somebody polls.
func BenchmarkNumberEvents(b *testing.B) {
	pool := dbtest.New(b)
	_, err := pool.Exec(b.Context(), `INSERT INTO events (id, type, payload, run_id) SELECT 'e' || n, 'post.created', convert_to(repeat('x', 400), 'UTF8'), 'run' FROM generate_series(1, $1) n`, b.N)
	require.NoError(b, err)
	b.ResetTimer()
	_, err = db.NewEventReader(pool).State(b.Context(), time.Hour)
	require.NoError(b, err)
}
