package hosts_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/hosts"
	"github.com/mathub/webhooks/standalone/supervise"
)

// tellsTime makes this program one that answers each line with the seconds of Unix.
const tellsTime = "HOSTS_TEST_TELLS_TIME"

func TestMain(m *testing.M) {
	if os.Getenv(tellsTime) == "" {
		os.Exit(m.Run())
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Println(time.Now().Unix())
	}
}

// TestHost_SetClock: programs that run, and what they fork, go by their host's clock, and those of another host do not.
func TestHost_SetClock(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	if runtime.GOARCH != "amd64" {
		require.ErrorContains(t, a.SetClock(time.Minute), "amd64")
		return
	}
	for name, program := range map[string]func() *exec.Cmd{
		"Go's": func() *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), tellsTime+"=1")
			return cmd
		},
		"the C library's time":         func() *exec.Cmd { return exec.Command("bash", "-c", `while read; do printf '%(%s)T\n' -1; done`) },
		"the C library's gettimeofday": func() *exec.Cmd { return exec.Command("bash", "-c", `while read; do echo ${EPOCHREALTIME%.*}; done`) },
		"of a process it forks":        func() *exec.Cmd { return exec.Command("bash", "-c", `while read; do (printf '%(%s)T\n' -1); done`) },
	} {
		onA, onB := clockOn(t, a, program()), clockOn(t, b, program())
		for _, apart := range []time.Duration{0, 10 * time.Minute, -10 * time.Minute, 0} {
			require.NoError(t, a.SetClock(apart))
			require.InDelta(t, apart.Seconds(), onA().Seconds(), 5, name)
			require.InDelta(t, 0, onB().Seconds(), 5, name)
		}
	}
}

// clockOn starts a program on a host that tells the time, and returns how to ask how far that is from this process's.
func clockOn(t *testing.T, h *hosts.Host, cmd *exec.Cmd) (apart func() time.Duration) {
	t.Helper()
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	process, err := supervise.Start("clock", cmd, supervise.Options{Thread: h.Thread})
	require.NoError(t, err)
	t.Cleanup(process.Kill)
	lines := bufio.NewScanner(out)
	return func() time.Duration {
		_, err := in.Write([]byte("now\n"))
		require.NoError(t, err)
		require.True(t, lines.Scan())
		seconds, err := strconv.ParseInt(lines.Text(), 10, 64)
		require.NoError(t, err)
		return time.Until(time.Unix(seconds, 0))
	}
}
