package egress

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/testutil"
)

func TestHeartbeatMeasuresLostTime(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	at := func(d time.Duration) instant { return instant{monotonic: d, wall: d} }
	for name, c := range map[string]struct {
		beats []instant
		now   instant
		want  time.Duration
	}{
		"none is due yet":                       {nil, at(90 * ms), 0},
		"on time":                               {[]instant{at(100 * ms), at(200 * ms), at(300 * ms)}, at(350 * ms), 0},
		"as late as on a busy machine":          {[]instant{at(180 * ms), at(370 * ms), at(560 * ms)}, at(750 * ms), 0},
		"stopped for 6 s":                       {[]instant{at(100 * ms), at(6100 * ms)}, at(6150 * ms), 5900 * ms},
		"asked before the first beat after it":  {[]instant{at(100 * ms)}, at(6100 * ms), 5900 * ms},
		"a little each time":                    {[]instant{at(300 * ms), at(600 * ms), at(900 * ms)}, at(900 * ms), 600 * ms},
		"stopped twice":                         {[]instant{at(1100 * ms), at(1200 * ms), at(2300 * ms)}, at(2300 * ms), 2000 * ms},
		"suspended: the monotonic clock stands": {[]instant{at(100 * ms), {200 * ms, time.Hour}}, instant{250 * ms, time.Hour}, time.Hour - 200*ms},
		"the wall clock is set back":            {[]instant{at(100 * ms), {200 * ms, -time.Hour}}, instant{250 * ms, -time.Hour}, 0},
		"set back, and stopped":                 {[]instant{at(100 * ms), {5200 * ms, -time.Hour}}, instant{5250 * ms, -time.Hour}, 5000 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHeartbeat(at(0))
			for _, b := range c.beats {
				h.beat(b)
			}
			require.Equal(t, c.want, h.lost(c.now))
		})
	}
}

func TestTheProcessHasAHeartbeat(t *testing.T) {
	t.Parallel()
	h := processHeartbeat()
	require.Same(t, h, newClient(t, Options{}).heartbeat)
	first := h.last.Load()
	require.Eventually(t, func() bool { return h.last.Load() != first }, time.Minute, beatEvery)
}

// What a receiver did that could come of our not having run is our own side's, if we did not run for long enough: a
// time-out, a connection or an answer that is broken off, 408. What else it says, it says whatever we did.
func TestAPauseIsOurFailing(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]struct {
		ours   bool
		url    string
		handle func(net.Conn)
	}{
		"timeout":             {ours: true, handle: func(conn net.Conn) { waitForClose(conn, time.Minute) }},
		"connection reset":    {ours: true, handle: reset},
		"connection closed":   {ours: true, handle: answer("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")},
		"HTTP 408":            {ours: true, handle: answer("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")},
		"HTTP 503":            {handle: answer("HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")},
		"connection refused":  {url: "http://" + testutil.ClosedPort(t)},
		"":                    {handle: answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")},
		"dns: no such host":   {url: "http://nobody.example.com/"},
		"blocked: https only": {url: "ftp://127.0.0.1/"},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			c := c
			for _, lost := range []time.Duration{maxLost - time.Millisecond, maxLost + time.Millisecond} {
				client := newClient(t, Options{Timeout: 2 * time.Second, Resolver: startDNS(t, map[string]dnsAnswer{"example.com": {a: [][]string{{"127.0.0.1"}}}}).Resolver()})
				client.heartbeat = newHeartbeat(instantOf(time.Now().Add(time.Hour))) // the machine's own lateness is left out
				url := c.url
				if url == "" {
					url = listen(t, "127.0.0.1:0", func(conn net.Conn) {
						last := client.heartbeat.last.Load()
						client.heartbeat.last.Store(&beat{at: last.at, lost: lost})
						c.handle(conn)
					}).URL
				}
				r, err := client.Post(t.Context(), url, http.Header{}, []byte("{}"))
				if c.ours && lost > maxLost {
					require.ErrorIs(t, err, ErrPaused)
					require.Equal(t, Response{}, r)
					require.NotContains(t, err.Error(), "127.")
					continue
				}
				require.NoError(t, err)
				require.Equal(t, want, r.Error)
			}
		})
	}
}
