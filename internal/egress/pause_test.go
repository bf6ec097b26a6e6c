//go:build unix

package egress

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func init() { children["stopped"] = childStopped }

const stoppedTimeout = 2 * time.Second

// childStopped posts to a receiver that has it stopped, and to one that hangs.
func childStopped() int {
	c := New(Options{Allow: loopback, AllowHTTP: true, Timeout: stoppedTimeout})
	for _, url := range strings.Fields(os.Getenv("CHILD_URL")) {
		r, err := c.Post(context.Background(), url, nil, []byte("{}"))
		fmt.Printf("%q %v\n", r.Error, errors.Is(err, ErrPaused))
	}
	return 0
}

// A process that is stopped while a receiver answers finds, when it goes on, that the time is over. What the receiver did
// is in the socket, or it has given up waiting for us.
func TestAStoppedProcessBlamesNoReceiver(t *testing.T) {
	t.Parallel()
	pid := make(chan int, 1)
	stopped := func(then func(net.Conn)) string {
		return listen(t, "127.0.0.1:0", func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 1)) // a request, or a handshake, has begun
			child := <-pid
			defer func() { pid <- child }()
			_ = syscall.Kill(child, syscall.SIGSTOP)
			defer syscall.Kill(child, syscall.SIGCONT) //nolint:errcheck // the test fails by what the child prints
			time.Sleep(stoppedTimeout / 4)             // how long the child is stopped before the answer
			then(conn)
			time.Sleep(stoppedTimeout) // how long it is stopped after it
		}).URL
	}
	urls := []string{
		stopped(func(conn net.Conn) { _, _ = io.WriteString(conn, okResponse) }),
		stopped(reset),
		strings.Replace(stopped(func(conn net.Conn) { _ = conn.Close() }), "http:", "https:", 1),
		listen(t, "127.0.0.1:0", func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }).URL, // hangs
	}
	var output bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, os.Args[0])
	child.Env = append(os.Environ(), childVariable+"=stopped", "CHILD_URL="+strings.Join(urls, " "))
	child.Stdout, child.Stderr = &output, &output
	require.NoError(t, child.Start())
	pid <- child.Process.Pid
	require.NoError(t, child.Wait(), output.String())
	lines := strings.Split(strings.TrimSpace(output.String()), "\n")
	require.Len(t, lines, len(urls), output.String())
	for i, line := range lines[:len(urls)-1] {
		require.Contains(t, []string{`"" true`, `"" false`}, line, "%d: a receiver was blamed", i)
	}
	require.Equal(t, `"" true`, lines[1], "the receiver had reset the connection")
	require.Equal(t, `"timeout" false`, lines[len(urls)-1])
}
