package api_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestHangingUpCostsNoConnection: a call that its client leaves ended its connection to Postgres. A bot could so have the process
// make connections all the time, while others waited for one.
func TestHangingUpCostsNoConnection(t *testing.T) {
	t.Parallel()
	for _, path := range []string{webhooksPath, pollPath, "/api/bot/v1/deliveries"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, nil, nil)
			_, key := a.bot()
			a.hook(key)
			require.Equal(t, http.StatusOK, a.do(http.MethodGet, path, key, nil).status)
			tx, err := a.pool.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(context.Background()) }() // it may have ended
			_, err = tx.Exec(t.Context(), "LOCK TABLE webhooks, event_log, events IN ACCESS EXCLUSIVE MODE")
			require.NoError(t, err)
			waiting := func() (n int) {
				require.NoError(t, tx.QueryRow(t.Context(), "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&n))
				return n
			}
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(a.url, "http://"))
			require.NoError(t, err)
			_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", path, key)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return waiting() == 1 }, time.Minute, 10*time.Millisecond)
			made := a.pool.Stat().TotalConns()
			require.NoError(t, conn.Close())
			require.Never(t, func() bool { return a.pool.Stat().TotalConns() < made }, 500*time.Millisecond, 10*time.Millisecond)
			require.NoError(t, tx.Rollback(t.Context()))
			require.Eventually(t, func() bool { return a.pool.Stat().AcquiredConns() == 0 }, time.Minute, 10*time.Millisecond)
		})
	}
}
