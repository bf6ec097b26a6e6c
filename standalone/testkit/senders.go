package testkit

import (
	"net"
	"net/http"
	"testing"
	"time"
)

// track keeps the connections that have not ended.
func (r *Receiver) track(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew, http.StateClosed, http.StateHijacked:
		r.mu.Lock()
		defer r.mu.Unlock()
		if state == http.StateNew {
			r.open[conn] = true
		} else {
			delete(r.open, conn)
		}
		r.change()
	}
}

// AwaitSendersGone waits until the connections of senders that have died have ended. Then what they sent is among Requests, however
// busy the machine is. It does not return while another sender keeps a connection.
func (r *Receiver) AwaitSendersGone(t testing.TB) {
	t.Helper()
	// Connections are taken in their order: once this one is, so are all that were made before.
	last, err := net.Dial("tcp", r.addr) //nolint:noctx // on loopback
	if err != nil {
		t.Fatal(err)
	}
	defer last.Close() //nolint:errcheck // nothing was sent
	taken := false
	r.await(t, "connections of senders that have died", func() bool {
		others := 0
		for conn := range r.open {
			if conn.RemoteAddr().String() == last.LocalAddr().String() {
				taken = true
			} else {
				others++
			}
		}
		return taken && others == 0
	})
}

// await waits until something is so, with mu held, or fails the test after awaitPatience.
func (r *Receiver) await(t testing.TB, what string, is func() bool) {
	t.Helper()
	timeout := time.After(awaitPatience)
	for {
		r.mu.Lock()
		done, changed := is(), r.changed
		r.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%s: not so within %s", what, awaitPatience)
		}
	}
}
