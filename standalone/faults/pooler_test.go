package faults_test

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/postgres"
	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/supervise"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestBehindPgBouncer: migrate, doctor, API and worker reach Postgres through PgBouncer in transaction mode only, with
// default settings.
func TestBehindPgBouncer(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Servers: durable, Apps: apart(), Prepare: func(s *testkit.Stack) {
		s.SetEnv("MATHUB_DATABASE_URL", startPgBouncer(t, s))
	}})
	out, err := doctor(t, stack)
	require.NoError(t, err, out)
	require.Contains(t, out, "connection pooler: found")
	require.Contains(t, stack.Run(t, "migrate", "down", "--yes"), "reverted")
	require.NotEmpty(t, stack.Run(t, "migrate"))

	l := newLedger(t, stack, "pooled", 3)
	l.emit(t, 200, 5*time.Millisecond)()
	require.Zero(t, l.settle(t, time.Minute), "repeats without a crash")
	for _, app := range stack.Apps {
		log, err := os.ReadFile(app.LogPath())
		require.NoError(t, err)
		require.NotContains(t, string(log), "prepared statement")
		require.NotContains(t, string(log), "could not record deliveries")
	}
	finished(t, stack, time.Minute)

	for _, mode := range []string{"exec", "simple_protocol"} { // refused before anything is sent
		stack.SetEnv("MATHUB_DATABASE_URL", stack.Env("MATHUB_DATABASE_URL")+"&default_query_exec_mode="+mode)
		out, err := stack.TryRun(t, "worker")
		require.Error(t, err)
		require.Contains(t, out, "default_query_exec_mode")
	}
}

// startPgBouncer returns the URL by which the product's database is reached through it. It has fewer sessions with Postgres
// than the product has with it.
func startPgBouncer(t *testing.T, stack *testkit.Stack) string {
	t.Helper()
	direct, err := url.Parse(stack.DatabaseURL())
	require.NoError(t, err)
	port, err := freeport.Find()
	require.NoError(t, err)
	dir := t.TempDir()
	settings := filepath.Join(dir, "pgbouncer.ini")
	require.NoError(t, os.WriteFile(settings, fmt.Appendf(nil, `[databases]
* = host=127.0.0.1 port=%s user=%s password=throw-away
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
max_client_conn = 200
server_round_robin = 1
`, direct.Port(), postgres.User, port), 0o600))
	args := []string{settings}
	if os.Getuid() == 0 { // which it does not run as
		args = append([]string{"--user", "nobody"}, args...)
	}
	cmd := exec.Command(testkit.Tool(t, "pgbouncer"), args...)
	log, err := os.Create(filepath.Join(dir, "pgbouncer.log"))
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = log, log
	process, err := supervise.Start("PgBouncer", cmd, supervise.Options{})
	require.NoError(t, err)
	t.Cleanup(process.Kill)
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, time.Minute, 20*time.Millisecond, "PgBouncer does not listen")
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", postgres.User, addr, servers.MainDatabase)
}
