package freeport_test

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
)

// asked is the environment variable that makes this test's program a second process that finds ports.
const asked = "FREEPORT_TEST_FINDS"

// found is how many ports each process finds: together so many of the 12,000 that chance alone would give some twice.
const found = 400

func TestMain(m *testing.M) {
	if os.Getenv(asked) == "" {
		os.Exit(m.Run())
	}
	for range found {
		port, err := freeport.Find()
		if err != nil {
			panic(err)
		}
		println(port)
	}
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test has looked
}

func TestNoPortIsFoundTwice(t *testing.T) {
	t.Parallel()
	// A whole process and several goroutines of this one, side by side.
	program, err := os.Executable()
	require.NoError(t, err)
	other := exec.CommandContext(t.Context(), program)
	other.Env = append(os.Environ(), asked+"=1")
	stdin, err := other.StdinPipe()
	require.NoError(t, err)
	stderr, err := other.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())

	var mu sync.Mutex
	ports := map[string]int{}
	var finders sync.WaitGroup
	for range 4 {
		finders.Go(func() {
			for range found / 4 {
				port, err := freeport.Find()
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				ports[strconv.Itoa(port)]++
				mu.Unlock()
			}
		})
	}
	finders.Wait()
	var lines strings.Builder
	for buffer := make([]byte, 4096); strings.Count(lines.String(), "\n") < found; {
		n, err := stderr.Read(buffer)
		require.NoError(t, err, lines.String())
		lines.Write(buffer[:n])
	}
	for _, port := range strings.Fields(lines.String()) {
		ports[port]++
	}
	require.NoError(t, stdin.Close())
	require.NoError(t, other.Wait())
	require.Len(t, ports, 2*found, "some were found twice")
}

func TestAPortInUseIsNotFree(t *testing.T) { // not in parallel: a process that another test starts holds ports for a moment
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.Error(t, freeport.Check(port))
	require.NoError(t, listener.Close())
	require.NoError(t, freeport.Check(port))
}
