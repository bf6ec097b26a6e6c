package faults_test

import (
	"context"
	"fmt"
	"net/http"
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
	"github.com/mathub/webhooks/standalone/postgres"
	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/supervise"
	"github.com/mathub/webhooks/standalone/testkit"
)

// recovery is how long the product may take once a database can be written to again, or a server began to hang.
const recovery = 10 * time.Second

// TestFailover loses the primary under load, by a crash and by a hang, and promotes its synchronous standby. Both servers
// stand in the product's URL; Temporal's database is elsewhere.
func TestFailover(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, p *pair){
		"crash": func(t *testing.T, p *pair) { require.NoError(t, p.primary.SignalGroup(syscall.SIGKILL)) },
		"hang":  func(t *testing.T, p *pair) { p.freeze(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p *pair
			stack := testkit.Start(t, testkit.Options{Servers: durable, Apps: apart(), Prepare: func(s *testkit.Stack) {
				p = startPair(t)
				s.SetDatabase(p.url())
			}})
			l := newLedger(t, stack, "failover", 3)
			stop := l.stream(t, 50*time.Millisecond)
			l.flows(t, 60)
			lose(t, p)
			require.Eventually(t, func() bool { return readyStatus(t, stack) != http.StatusOK }, slack*recovery, 20*time.Millisecond, "/readyz says that nothing can be written")
			out, err := doctor(t, stack)
			require.Error(t, err, out)
			require.Contains(t, out, "read-only", "the doctor names the standby's state")
			require.NoError(t, p.follower.Control(t.Context(), "promote", "--wait"))
			require.Eventually(t, func() bool { return readyStatus(t, stack) == http.StatusOK }, slack*recovery, 20*time.Millisecond, "/readyz says that all is well again")
			began := time.Now()
			l.flows(t, 60)
			require.Less(t, time.Since(began), slack*recovery, "deliveries flow again")
			stop()
			l.settle(t, time.Minute)
			survived(t, stack)
		})
	}
}

func readyStatus(t *testing.T, stack *testkit.Stack) int {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get(stack.API().URL + "/readyz")
	if err != nil {
		return 0
	}
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}

// doctor is what the doctor says, and whether it failed.
func doctor(t *testing.T, stack *testkit.Stack) (string, error) {
	t.Helper()
	return stack.TryRun(t, "doctor")
}

// pair is a primary and its synchronous standby.
type pair struct {
	leader, follower *postgres.Server
	primary, standby *supervise.Process
	ports            [2]int
}

func startPair(t *testing.T) *pair {
	t.Helper()
	dir := testkit.Scratch(t)
	log, err := os.Create(filepath.Join(dir, "pair.log"))
	require.NoError(t, err)
	p := &pair{}
	config := func(i int, name string) postgres.Config {
		p.ports[i], err = freeport.Find()
		require.NoError(t, err)
		return postgres.Config{Dir: filepath.Join(dir, name), Port: p.ports[i], Password: "throw-away", Log: log}
	}
	p.leader, err = postgres.Prepare(t.Context(), config(0, "leader"))
	require.NoError(t, err)
	p.primary = run(t, p.leader)
	require.NoError(t, p.leader.CreateDatabases(t.Context(), servers.MainDatabase))
	p.follower, err = postgres.PrepareStandby(t.Context(), config(1, "follower"), p.leader)
	require.NoError(t, err)
	p.standby = run(t, p.follower)

	admin, err := pgx.Connect(t.Context(), p.leader.URL("postgres"))
	require.NoError(t, err)
	defer admin.Close(context.Background()) //nolint:errcheck // done with it
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"} {
		_, err = admin.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		var synchronous int
		err := admin.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'").Scan(&synchronous)
		return err == nil && synchronous == 1
	}, time.Minute, 20*time.Millisecond, "the standby follows")
	return p
}

func run(t *testing.T, server *postgres.Server) *supervise.Process {
	t.Helper()
	process, err := supervise.Start("Postgres", server.Command(), supervise.Options{OrphanSignal: postgres.StopSignal})
	require.NoError(t, err)
	t.Cleanup(func() {
		process.Kill()
		_ = server.Close()
	})
	require.NoError(t, server.AwaitReady(t.Context(), process.Done()))
	return process
}

// url names both servers, the primary first.
func (p *pair) url() string {
	return fmt.Sprintf("postgres://%s:throw-away@127.0.0.1:%d,127.0.0.1:%d/%s?sslmode=disable&target_session_attrs=read-write",
		postgres.User, p.ports[0], p.ports[1], servers.MainDatabase)
}

// freeze stops the primary and all its children, as a host that hangs: connections to it stay.
func (p *pair) freeze(t *testing.T) {
	t.Helper()
	children, err := exec.Command(testkit.Tool(t, "ps"), "-A", "-o", "pid=,ppid=").Output()
	require.NoError(t, err)
	pids := []int{p.primary.PID()}
	for line := range strings.Lines(string(children)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[1] == strconv.Itoa(p.primary.PID()) {
			pid, err := strconv.Atoi(fields[0])
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			require.ErrorIs(t, err, syscall.ESRCH, "a session that has just ended")
		}
	}
	t.Cleanup(func() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
}
