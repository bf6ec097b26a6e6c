package supervise

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func shell(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// patience bounds what takes a moment on a machine with time for it. What would not happen by itself takes a minute.
const patience = 30 * time.Second

func TestStopEndsWhatTheChildStarted(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		grace  time.Duration
		killed bool
	}{
		"obedient": {script: "trap 'exit 0' TERM; sleep 60 & echo $! >$0; wait", grace: patience},
		"stubborn": {script: "trap '' TERM; sleep 60 & echo $! >$0; while :; do sleep 0.05; done", grace: 300 * time.Millisecond, killed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pid")
			p, err := Start("child", exec.Command("sh", "-c", c.script, file), Options{})
			require.NoError(t, err)
			var grandchild int
			require.Eventually(t, func() bool {
				raw, err := os.ReadFile(file)
				grandchild, _ = strconv.Atoi(strings.TrimSpace(string(raw)))
				return err == nil && grandchild > 0
			}, patience, 10*time.Millisecond)
			require.True(t, p.Alive())
			require.Empty(t, p.Ended())

			err = p.Stop(t.Context(), syscall.SIGTERM, c.grace)
			if c.killed {
				require.ErrorContains(t, err, "was killed")
				require.Equal(t, "signal: killed", p.Ended())
			} else {
				require.NoError(t, err)
				require.Equal(t, "exit status 0", p.Ended())
			}
			require.Eventually(t, func() bool { return !alive(grandchild) }, patience, 10*time.Millisecond)
			require.NoError(t, p.Stop(t.Context(), syscall.SIGTERM, time.Second), "a second time is no error")
		})
	}
}

// TestMain lets the test's program be a parent that is killed.
func TestMain(m *testing.M) {
	if file := os.Getenv("MATHUB_SUPERVISE_TEST_PARENT"); file != "" {
		p, err := Start("child", shell("sleep 60"), Options{})
		if err != nil {
			panic(err)
		}
		if err := os.WriteFile(file, []byte(strconv.Itoa(p.PID())), 0o600); err != nil {
			panic(err)
		}
		select {}
	}
	os.Exit(m.Run())
}

// TestChildOfAKilledParentEnds, also when its parent runs long enough for the runtime to end idle threads.
func TestChildOfAKilledParentEnds(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pid")
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), "MATHUB_SUPERVISE_TEST_PARENT="+file)
	require.NoError(t, parent.Start())
	var child int
	require.Eventually(t, func() bool {
		raw, err := os.ReadFile(file)
		child, _ = strconv.Atoi(string(raw))
		return err == nil && child > 0
	}, patience, 10*time.Millisecond)
	time.Sleep(300 * time.Millisecond) // for the runtime to end idle threads
	require.True(t, alive(child))
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait()
	require.Eventually(t, func() bool { return !alive(child) }, patience, 10*time.Millisecond)
}

// said collects what a supervisor says.
type said struct {
	mu    sync.Mutex
	lines []string
}

func (s *said) say(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

func (s *said) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.lines, func(line string) bool { return strings.Contains(line, text) })
}

func ready(context.Context, <-chan struct{}) error { return nil }

func TestSupervisor(t *testing.T) {
	t.Parallel()
	newSupervisor := func(s *said) *Supervisor {
		return &Supervisor{
			Name: "child", Say: s.say, Ready: ready, StopSignal: syscall.SIGTERM, Grace: patience,
			Command: func() (*exec.Cmd, error) { return shell("sleep 60"), nil },
		}
	}
	t.Run("starts an ended child again", func(t *testing.T) {
		t.Parallel()
		s := &said{}
		k := newSupervisor(s)
		require.NoError(t, k.Start(t.Context()))
		first := k.Process()
		require.NoError(t, first.Signal(syscall.SIGKILL))
		require.Eventually(t, func() bool { return s.has("child is back") }, patience, 10*time.Millisecond)
		require.True(t, s.has("child ended (signal: killed): starting it again"))
		second := k.Process()
		require.NotEqual(t, first.PID(), second.PID())
		require.NoError(t, k.Stop(t.Context()))
		require.False(t, second.Alive())
		time.Sleep(2 * firstBackoff) // for a restart, which must not come
		require.Equal(t, second, k.Process(), "stopped is stopped")
	})
	t.Run("gives a watched child up", func(t *testing.T) {
		t.Parallel()
		s := &said{}
		k := newSupervisor(s)
		watched := 0
		k.Watch = func(ctx context.Context) string {
			watched++
			if watched == 1 {
				return "it looks ill"
			}
			<-ctx.Done()
			return "too late to matter"
		}
		require.NoError(t, k.Start(t.Context()))
		require.Eventually(t, func() bool { return s.has("child is back") }, patience, 10*time.Millisecond)
		require.True(t, s.has("child ended (it looks ill): starting it again"))
		require.NoError(t, k.Stop(t.Context()))
		require.Equal(t, 2, watched)
	})
	t.Run("goes on when a restart fails", func(t *testing.T) {
		t.Parallel()
		s := &said{}
		k := newSupervisor(s)
		starts := 0
		k.Ready = func(context.Context, <-chan struct{}) error {
			if starts++; starts == 2 {
				return errors.New("deaf")
			}
			return nil
		}
		require.NoError(t, k.Start(t.Context()))
		require.NoError(t, k.Process().Signal(syscall.SIGKILL))
		require.Eventually(t, func() bool { return s.has("child is back") }, patience, 10*time.Millisecond)
		require.True(t, s.has("child ended (deaf): starting it again"))
		require.NoError(t, k.Stop(t.Context()))
	})
	t.Run("leaves nothing after a failed first start", func(t *testing.T) {
		t.Parallel()
		s := &said{}
		k := newSupervisor(s)
		k.Ready = func(context.Context, <-chan struct{}) error { return errors.New("deaf") }
		require.ErrorContains(t, k.Start(t.Context()), "deaf")
		require.False(t, k.Process().Alive())
		require.NoError(t, k.Stop(t.Context()))
	})
	t.Run("stops in the middle of a wait", func(t *testing.T) {
		t.Parallel()
		least := time.Hour // of several: a busy machine adds to a time, and takes none away
		for tries := 0; least >= firstBackoff/2 && tries < 10; tries++ {
			s := &said{}
			k := newSupervisor(s)
			require.NoError(t, k.Start(t.Context()))
			require.NoError(t, k.Process().Signal(syscall.SIGKILL))
			require.Eventually(t, func() bool { return s.has("child ended") }, patience, time.Millisecond)
			began := time.Now()
			require.NoError(t, k.Stop(t.Context()))
			least = min(least, time.Since(began))
		}
		require.Less(t, least, firstBackoff/2)
	})
}
