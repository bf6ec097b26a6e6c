package e2e_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestConnectionsThatSayNothingKeepNobodyOut: more than the API accepts at once, and none of them ever ends its header.
func TestConnectionsThatSayNothingKeepNobodyOut(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Apps: []testkit.App{{Args: []string{"api"}}}})
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
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + addr + "/healthz")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	// The first of them has been closed: it reads to the end of what the server said.
	require.NoError(t, open[0].SetReadDeadline(time.Now().Add(time.Minute)))
	buffer := make([]byte, 4096)
	for err == nil {
		_, err = open[0].Read(buffer)
	}
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is still open")
}

// TestStrangersDoNotKeepTheBackendFromEmitting: they hold every connection of the public listener in each way there is, and
// flood it with calls; events that the backend emits on its own listener are accepted and delivered as ever.
func TestStrangersDoNotKeepTheBackendFromEmitting(t *testing.T) {
	t.Parallel()
	port, err := freeport.Find()
	require.NoError(t, err)
	internal := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	stack := testkit.Start(t, testkit.Options{Apps: []testkit.App{{Args: []string{"serve"}, Env: map[string]string{"MATHUB_INTERNAL_ADDR": internal}}}})
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "bot")
	bot.CreateWebhook(t, receiver.URL("/hook"), "", "post.created")
	for base, status := range map[string]int{stack.Apps[0].URL(): http.StatusNotFound, "http://" + internal: http.StatusOK} {
		answer, err := (&testkit.API{URL: base}).Do(t.Context(), http.MethodGet, "/api/internal/v1/bots/"+bot.ID, stack.API().ServiceToken, nil)
		require.NoError(t, err)
		require.Equal(t, status, answer.Status, base)
		answer, err = (&testkit.API{URL: base}).Do(t.Context(), http.MethodGet, "/readyz", "", nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answer.Status, "load balancers ask each")
	}

	addr := strings.TrimPrefix(stack.Apps[0].URL(), "http://")
	says := []string{
		"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", // idle from then on
		"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"POST /api/bot/v1/webhooks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
		"GET /docs HTTP/1.1\r\nHost: x\r\n\r\nGET /docs HTTP/1.1\r\nHost: x\r\n\r\n", // unread
	}
	for i := range 2200 {
		conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = conn.Write([]byte(says[i%len(says)]))
		require.NoError(t, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	defer flood.Wait()
	defer cancel()
	for range 16 {
		flood.Go(func() {
			stranger := &testkit.API{URL: stack.Apps[0].URL(), Client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}}
			for ctx.Err() == nil {
				_, _ = stranger.Do(ctx, http.MethodGet, "/api/bot/v1/webhooks", "bot_wrong", nil)
				_, _ = stranger.Do(ctx, http.MethodGet, "/readyz", "", nil)
			}
		})
	}
	const events = 50
	for range events {
		bot.Emit(t, testkit.Event{Type: "post.created"}) // which is answered before the client gives up
	}
	receiver.Await(t, "/hook", events)
}
