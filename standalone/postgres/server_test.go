package postgres

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/supervise"
)

// closedFolder is a folder whose parents only their owner can walk, like /root.
func closedFolder(t *testing.T) string {
	t.Helper()
	closed := filepath.Join(t.TempDir(), "closed")
	dir := filepath.Join(closed, "data")
	require.NoError(t, os.MkdirAll(dir, 0o700))
	require.NoError(t, os.Chmod(closed, 0o700))
	return dir
}

func prepare(t *testing.T, dir string) *Server {
	t.Helper()
	port, err := freeport.Find()
	require.NoError(t, err)
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, log.Close()) })
	c, err := Prepare(t.Context(), Config{Dir: filepath.Join(dir, "postgres"), Port: port, Password: "secret", Log: log})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func start(t *testing.T, c *Server) *supervise.Process {
	t.Helper()
	p, err := supervise.Start("Postgres", c.Command(), supervise.Options{})
	require.NoError(t, err)
	t.Cleanup(p.Kill)
	require.NoError(t, c.AwaitReady(t.Context(), p.Done()))
	return p
}

func query[T any](t *testing.T, c *Server, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.URL("mathub"))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.Background())) }()
	rows, err := conn.Query(t.Context(), sql)
	require.NoError(t, err)
	v, err := pgx.CollectOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err)
	return v
}

// TestClientsOnThisMachineComeByTheSocket: also where the path to the data is closed to its own user; and by loopback where
// the socket's path is too long for a client, or has a comma, which clients and the server take for two paths.
func TestClientsOnThisMachineComeByTheSocket(t *testing.T) {
	bySocket := func(c *Server) (local bool) {
		start(t, c)
		conn, err := pgx.Connect(t.Context(), c.LocalURL("postgres"))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(context.Background())) }()
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT inet_client_addr() IS NULL").Scan(&local))
		return local
	}
	short, err := os.MkdirTemp("", "pg")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(short)) })
	require.NoError(t, os.Chmod(short, 0o700))
	require.True(t, bySocket(prepare(t, short)))
	comma := filepath.Join(short, "Euler, L")
	require.NoError(t, os.Mkdir(comma, 0o700))
	require.False(t, bySocket(prepare(t, comma)))
	long := filepath.Join(closedFolder(t), strings.Repeat("long", 25))
	require.NoError(t, os.Mkdir(long, 0o700))
	require.False(t, bySocket(prepare(t, long)))
}

func TestDataIsKept(t *testing.T) {
	dir := closedFolder(t)
	c := prepare(t, dir)
	p := start(t, c)
	require.NoError(t, c.CreateDatabases(t.Context(), "mathub"))
	require.NoError(t, c.CreateDatabases(t.Context(), "mathub"), "made once only")
	conn, err := pgx.Connect(t.Context(), c.URL("mathub"))
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE TABLE kept (n int); INSERT INTO kept VALUES (42)")
	require.NoError(t, err)

	// Settings that the promise of durability hangs on.
	require.Equal(t, "on", query[string](t, c, "SHOW fsync"))
	require.Equal(t, "on", query[string](t, c, "SHOW synchronous_commit"))
	require.Equal(t, "on", query[string](t, c, "SHOW full_page_writes"))
	require.Equal(t, "127.0.0.1", query[string](t, c, "SHOW listen_addresses"))

	_, err = pgx.Connect(t.Context(), "postgres://mathub:wrong@127.0.0.1:"+strconv.Itoa(c.config.Port)+"/mathub?sslmode=disable")
	require.ErrorContains(t, err, "28P01", "the password counts")

	require.NoError(t, p.Stop(t.Context(), syscall.SIGQUIT, time.Minute), "a crash, to Postgres")
	p = start(t, c)
	require.Equal(t, int32(42), query[int32](t, c, "SELECT n FROM kept"))
	require.NoError(t, p.Stop(t.Context(), StopSignal, time.Minute))
	require.NoError(t, p.Wait(), "it stops in order")

	c = prepare(t, dir)
	start(t, c)
	require.Equal(t, int32(42), query[int32](t, c, "SELECT n FROM kept"), "found by the next run")
}

func TestServerLeftBehindIsStopped(t *testing.T) {
	dir := closedFolder(t)
	left := start(t, prepare(t, dir))

	c := prepare(t, dir)
	select {
	case <-left.Done():
	case <-time.After(time.Minute): // the most that it may take
		t.Fatal("the server that was left behind still runs")
	}
	start(t, c)
}

func TestForeignProcessOfALeftNumberIsLeftAlone(t *testing.T) {
	dir := closedFolder(t)
	c := prepare(t, dir)
	foreign := exec.Command("sleep", "60")
	require.NoError(t, foreign.Start())
	defer func() {
		require.NoError(t, foreign.Process.Kill(), "it must have lived until here")
		_ = foreign.Wait()
	}()
	pidFile := filepath.Join(dir, "postgres", "postmaster.pid")
	require.NoError(t, os.WriteFile(pidFile, []byte(strconv.Itoa(foreign.Process.Pid)+"\n"+dir+"\n"), 0o600))
	require.NoError(t, c.user.owns(pidFile))

	c = prepare(t, dir)
	start(t, c)
	require.NoError(t, foreign.Process.Signal(syscall.Signal(0)))
}

func TestInterruptedInitialisationIsRepeated(t *testing.T) {
	dir := closedFolder(t)
	half := filepath.Join(dir, "postgres.new")
	require.NoError(t, os.MkdirAll(filepath.Join(half, "base"), 0o700))
	start(t, prepare(t, dir))
	require.NoDirExists(t, half)
}

func TestForeignFolderIsLeftAlone(t *testing.T) {
	dir := closedFolder(t)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "postgres"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "postgres", "thesis.txt"), nil, 0o600))
	_, err := Prepare(t.Context(), Config{Dir: filepath.Join(dir, "postgres"), Log: os.Stderr})
	require.ErrorContains(t, err, "move it away")
}

func TestWrongPasswordIsSaid(t *testing.T) {
	dir := closedFolder(t)
	c := prepare(t, dir)
	c.config.Password = "another"
	p, err := supervise.Start("Postgres", c.Command(), supervise.Options{})
	require.NoError(t, err)
	defer p.Kill()
	require.ErrorContains(t, c.AwaitReady(t.Context(), p.Done()), "another password")
}
