package egress

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// gate is a receiver that answers only when told.
func gate(t *testing.T) (r *receiver, waiting *atomic.Int32, open func()) {
	t.Helper()
	waiting = new(atomic.Int32)
	opened := make(chan struct{})
	open = sync.OnceFunc(func() { close(opened) })
	t.Cleanup(open)
	return listen(t, "127.0.0.1:0", func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			if _, _, ok := readRequest(in); !ok {
				return
			}
			waiting.Add(1)
			<-opened
			if _, err := io.WriteString(conn, okResponse); err != nil {
				return
			}
		}
	}), waiting, open
}

func TestInFlightIsBounded(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"in all":   {MaxInFlight: 4, MaxInFlightPerHost: 100},
		"per host": {MaxInFlight: 100, MaxInFlightPerHost: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, waiting, open := gate(t)
			c := newClient(t, o)
			var group sync.WaitGroup
			var failed atomic.Int32
			for range 40 {
				group.Go(func() {
					if got, err := c.Post(context.Background(), r.URL, nil, []byte("{}")); err != nil || !got.Success() {
						failed.Add(1)
					}
				})
			}
			require.Eventually(t, func() bool { return waiting.Load() == 4 }, slack, time.Millisecond)
			time.Sleep(50 * time.Millisecond) // for a fifth, which must not come
			require.EqualValues(t, 4, waiting.Load())
			open()
			group.Wait()
			require.Zero(t, failed.Load())
			require.LessOrEqual(t, r.Accepted(), 4)
			requireNoneTaken(t, c)
		})
	}
}

// Waiting for a place is not the receiver's time: the last in the queue waits for longer than an attempt may take.
func TestWaitIsNoPartOfTheAttempt(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	silent := listen(t, "127.0.0.1:0", func(conn net.Conn) { waitForClose(conn, 10*time.Second) })
	quick := listen(t, "127.0.0.1:0", serve(okResponse))
	c := newClient(t, Options{MaxInFlight: 1, MaxInFlightPerHost: 10, Timeout: timeout})
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() { post(t, c, silent.URL) })
	}
	require.Eventually(t, func() bool { return silent.Accepted() == 1 }, slack, time.Millisecond)
	time.Sleep(50 * time.Millisecond) // the others are waiting
	started := time.Now()
	got := post(t, c, quick.URL)
	require.True(t, got.Success(), got.Error)
	require.Greater(t, got.StartedAt.Sub(started), timeout)
	require.LessOrEqual(t, got.Duration, time.Since(got.StartedAt))
	group.Wait()
}

func TestWaitEndsWithTheCaller(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"in all":   {MaxInFlight: 1, MaxInFlightPerHost: 10},
		"per host": {MaxInFlight: 10, MaxInFlightPerHost: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, waiting, open := gate(t)
			c := newClient(t, o)
			done := make(chan Response, 1)
			go func() {
				got, _ := c.Post(context.Background(), r.URL, nil, []byte("{}"))
				done <- got
			}()
			require.Eventually(t, func() bool { return waiting.Load() == 1 }, slack, time.Millisecond)
			ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			defer cancel()
			got, err := c.Post(ctx, r.URL, nil, []byte("{}"))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, Response{}, got)
			open()
			first := <-done
			require.True(t, first.Success())
			require.True(t, post(t, c, r.URL).Success(), "no place was lost")
			requireNoneTaken(t, c)
		})
	}
}

// One host that hangs leaves places to the others.
func TestHangingHostLeavesPlaces(t *testing.T) {
	t.Parallel()
	silent := listen(t, "127.0.0.1:0", func(conn net.Conn) { waitForClose(conn, 10*time.Second) })
	quick := listen(t, "127.0.0.1:0", serve(okResponse))
	c := newClient(t, Options{MaxInFlight: 8})
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() { _, _ = c.Post(ctx, silent.URL, nil, nil) })
	}
	require.Eventually(t, func() bool { return silent.Accepted() == 4 }, slack, time.Millisecond)
	started := time.Now()
	require.True(t, post(t, c, quick.URL).Success())
	require.Less(t, time.Since(started), slack, "without waiting for any of the hanging ones")
	require.Equal(t, 4, silent.Accepted())
	cancel()
	group.Wait()
}

func requireNoneTaken(t *testing.T, c *Client) {
	t.Helper()
	require.Zero(t, c.places.inFlight())
	require.Empty(t, c.places.ofBot)
	require.Empty(t, c.places.ofHost)
	require.Empty(t, c.places.ofLane)
	require.Empty(t, c.places.waiting)
	require.Zero(t, c.places.turns.Len())
}

// TestABotLeavesPlacesToOthers: whose receivers are slow, at however many hosts, has half of the places at most, and so at a host that it
// shares with others.
func TestABotLeavesPlacesToOthers(t *testing.T) {
	t.Parallel()
	for name, hosts := range map[string]int{"with many hosts": 8, "with one host": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClient(t, Options{MaxInFlight: 16 * hosts, MaxInFlightPerHost: 16})
			var waiting []*atomic.Int32
			var urls []string
			var group sync.WaitGroup
			inFlight := func() (n int) {
				for _, w := range waiting {
					n += int(w.Load())
				}
				return n
			}
			send := func(bot, url string) {
				group.Go(func() {
					turn, err := c.Turn(context.Background(), bot, url)
					if err != nil {
						return
					}
					defer turn.Release()
					_, _ = turn.Post(context.Background(), nil, nil)
				})
			}
			for range hosts {
				r, w, open := gate(t)
				defer group.Wait()
				defer open()
				waiting, urls = append(waiting, w), append(urls, r.URL)
				for range 32 {
					send("slow", r.URL)
				}
			}
			require.Eventually(t, func() bool { return inFlight() == 8*hosts }, slack, time.Millisecond)
			for _, bot := range []string{"a", "b"} {
				send(bot, urls[0])
			}
			require.Eventually(t, func() bool { return inFlight() == 8*hosts+2 }, slack, time.Millisecond, "others wait for none of it")
		})
	}
}
