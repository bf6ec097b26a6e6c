package simulation

import (
	"fmt"
	"time"

	"github.com/mathub/webhooks/webhook"
)

// trouble is what ails a receiver for a while.
type trouble int

const (
	unavailable trouble = iota // answers 503 at once
	refusing                   // takes no connection, as while it restarts; what it was at is reset
	dropping                   // takes no connection, and never answers what it was at, as behind a proxy that waits for it
	resetting                  // breaks connections off
	hanging                    // answers when the trouble is over
	losing                     // never answers what comes meanwhile
	mixed                      // any of these, request by request
)

var troubles = []string{"answers 503", "refuses", "refuses and forgets", "resets", "hangs", "loses requests", "fails in many ways"}

// span is a time of trouble.
type span struct {
	from, to time.Duration
	kind     trouble
}

func (x span) String() string {
	return fmt.Sprintf("%s from %.1fs to %.1fs", troubles[x.kind], x.from.Seconds(), x.to.Seconds())
}

// receiver is who is behind a webhook.
type receiver struct {
	least, most time.Duration // how long it takes to answer
	spans       []span
	poison      map[string]bool // events that it never takes
}

// outcome is how a POST ended.
type outcome struct {
	success    bool
	class      string
	retryAfter time.Duration
}

// answer draws how a POST that begins now goes.
func (s *sim) answer(h *hook, ev *event) (time.Duration, outcome) {
	r := &h.receiver
	took := s.between(r.least, r.most)
	if r.poison[ev.id] && took < webhook.AttemptTimeout {
		return took, outcome{class: "status"}
	}
	for _, x := range r.spans {
		switch {
		case s.now >= x.from && s.now < x.to:
			return s.troubled(x, x.kind, took)
		case s.now < x.from && s.now+took > x.from && x.kind != unavailable:
			return s.caught(x, took)
		}
	}
	return took, outcome{success: true}
}

// troubled is the answer to a request that comes in a time of trouble.
func (s *sim) troubled(x span, kind trouble, took time.Duration) (time.Duration, outcome) {
	switch kind {
	case unavailable:
		out := outcome{class: "status"}
		if s.chance(0.05) {
			out.retryAfter = s.between(0, time.Minute)
		}
		return s.between(time.Millisecond, 10*time.Millisecond), out
	case refusing, dropping:
		return s.between(200*time.Microsecond, 2*time.Millisecond), outcome{class: "refused"}
	case resetting:
		return s.between(time.Millisecond, 300*time.Millisecond), outcome{class: "reset"}
	case hanging:
		if until := x.to - s.now + took; until < webhook.AttemptTimeout {
			return until, outcome{success: true}
		}
	case mixed:
		if s.chance(0.05) {
			return took, outcome{success: true}
		}
		return s.troubled(x, trouble(s.rnd.IntN(int(mixed))), took)
	}
	return webhook.AttemptTimeout, outcome{class: "timeout"}
}

// caught is the answer to a request that trouble comes upon.
func (s *sim) caught(x span, took time.Duration) (time.Duration, outcome) {
	switch {
	case x.kind == hanging:
		if until := max(took, x.to-s.now+s.between(0, 50*time.Millisecond)); until < webhook.AttemptTimeout {
			return until, outcome{success: true}
		}
	case x.kind != dropping && s.chance(0.5):
		return x.from - s.now, outcome{class: "reset"}
	}
	return webhook.AttemptTimeout, outcome{class: "timeout"}
}
