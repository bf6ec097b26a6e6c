package egress

import (
	"sync/atomic"
	"time"
)

// Timings say where an exchange's time went. A phase is 0 that did not come about or not to its end: all but FirstByte
// where a kept connection served, TLS of an http URL, DNS of an address.
type Timings struct {
	DNS     time.Duration // looking up the name
	Connect time.Duration // from then on until the connection stood
	TLS     time.Duration // the handshake
	// FirstByte is from the beginning of the exchange until the first byte of the response, of a 1xx too.
	FirstByte time.Duration
}

// phases are Timings in progress. net/http dials in goroutines of its own, which may outlast the exchange.
type phases struct {
	dns, connect, tls, firstByte phase
}

// phase is how long a phase took, in nanoseconds; 0 until it has ended.
type phase struct{ took atomic.Int64 }

func (p *phase) end(began time.Time) { p.took.Store(max(1, int64(time.Since(began)))) }
func (p *phase) ended() bool         { return p.took.Load() != 0 }
func (p *phase) duration() time.Duration {
	return time.Duration(p.took.Load())
}

// timings returns the phases as they stand. Of a dial that was begun and not needed, as a kept connection came free
// meanwhile, they say nothing.
func (e *exchange) timings() Timings {
	t := Timings{FirstByte: e.firstByte.duration()}
	if !e.reused.Load() {
		t.DNS, t.Connect, t.TLS = e.dns.duration(), e.connect.duration(), e.tls.duration()
	}
	return t
}
