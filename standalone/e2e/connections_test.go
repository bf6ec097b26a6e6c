package e2e_test

import (
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/e2e"
)

// TestConnectionsThatSayNothingKeepNobodyOut: more than the API accepts at once, and none of them ever ends its header.
func TestConnectionsThatSayNothingKeepNobodyOut(t *testing.T) {
	t.Parallel()
	stack := e2e.Start(t, e2e.Options{Apps: []e2e.App{{Args: []string{"api"}}}})
	addr := strings.TrimPrefix(stack.Apps[0].URL(), "http://")
	const many = 2200
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			_ = conn.Close()
		}
	}()
	for range many {
		conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
		require.NoError(t, err)
		open = append(open, conn)
		_, err = conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "))
		require.NoError(t, err)
	}
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + addr + "/healthz")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	// The first of them has been closed: it reads to the end of what the server said.
	require.NoError(t, open[0].SetReadDeadline(time.Now().Add(20*time.Second)))
	buffer := make([]byte, 4096)
	for err == nil {
		_, err = open[0].Read(buffer)
	}
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is still open")
}
