package bench_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/temporal"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestProfile shows where processor time goes during bursts of the kind that -burst names: the product and Temporal by
// function, Postgres by statement. With -profiles, the profiles are kept for `go tool pprof`.
func TestProfile(t *testing.T) {
	measures(t)
	dir := *profiles
	if dir == "" {
		dir = t.TempDir()
	}
	require.NoError(t, os.MkdirAll(dir, 0o755))
	ofApp, err := freeport.Find()
	require.NoError(t, err)
	ofTemporal, err := freeport.Find()
	require.NoError(t, err)
	stack := start(t, servers.Options{Temporal: temporal.Settings{ProfilePort: ofTemporal}}, testkit.App{
		Args: []string{"serve"}, Env: map[string]string{"MATHUB_ADMIN_ADDR": fmt.Sprintf("127.0.0.1:%d", ofApp)},
	})
	of := slices.IndexFunc(bursts, func(b burst) bool { return b.name == *profiledBurst })
	require.GreaterOrEqual(t, of, 0, "-burst: there is no %q", *profiledBurst)
	b := bursts[of]
	a := newAudience(t, newProduct(t, stack), b.webhooks)
	emit := func(ctx context.Context) error { return b.emit(a, ctx) }
	a.burst(t, sized(b.calls), emit) // warms up
	watch(t, stack)

	seconds := max(1, sized(20))
	var measured atomic.Bool
	profiled, ctx := errgroup.WithContext(t.Context())
	for name, port := range map[string]int{"app": ofApp, "temporal": ofTemporal} {
		profiled.Go(func() error { return profile(ctx, port, seconds, filepath.Join(dir, name+".pprof")) })
	}
	go func() {
		_ = profiled.Wait() // looked at below
		measured.Store(true)
	}()
	for !measured.Load() {
		a.burst(t, sized(b.calls), emit)
	}
	require.NoError(t, profiled.Wait())
	a.check(t)
	for _, name := range []string{"app", "temporal"} {
		t.Logf("%s, by what it calls\n%s", name, top(t, filepath.Join(dir, name+".pprof")))
	}
	t.Logf("Postgres, by statement\n%s", statements(t, stack))
}

// profile saves a processor profile of the process whose profiles are served on that port of loopback.
func profile(ctx context.Context, port, seconds int, path string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+time.Minute)
	defer cancel()
	url := fmt.Sprintf("http://127.0.0.1:%d/debug/pprof/profile?seconds=%d", port, seconds)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	raw, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, raw)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

func top(t *testing.T, path string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "tool", "pprof", "-top", "-cum", "-nodecount=60", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// statements are those that took Postgres longest, with their part of its time in statements and how often an event
// needed them.
func statements(t *testing.T, stack *testkit.Stack) string {
	t.Helper()
	rows, err := stack.Database(t).Query(t.Context(), `
		SELECT format('%s %%  %s calls  %s',
			round((100 * s.total_exec_time / sum(s.total_exec_time) OVER ())::numeric, 1), s.calls,
			left(regexp_replace(s.query, '\s+', ' ', 'g'), 100))
		FROM pg_stat_statements s ORDER BY s.total_exec_time DESC LIMIT 20`)
	require.NoError(t, err)
	defer rows.Close()
	var lines []string
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		lines = append(lines, line)
	}
	require.NoError(t, rows.Err())
	require.NotEmpty(t, lines)
	return strings.Join(lines, "\n")
}
