package simulation

import (
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/admission"
)

// The product's, where they are not exported.
const (
	admissionPatience = 500 * time.Millisecond  // internal/delivery/admit.go
	prefetchFresh     = 2 * time.Second         // internal/delivery/prefetch.go
	ownFaultDelay     = 5 * time.Second         // internal/delivery/delivery.go
	restInHand        = 3500 * time.Millisecond // internal/delivery/round.go
	roundStint        = 4 * time.Second
	sweepInterval     = 5 * time.Second  // worker/wake.go
	sweepEvery        = 30 * time.Second // internal/history/queue.go
	overdueAfter      = 10 * time.Second
	recorderFlushers  = 4 // internal/history/recorder.go
)

// worker is a process: internal/delivery, internal/history's recorder and worker/wake.go. A crash ends all that it was at
// and empties its memory.
type worker struct {
	s     *sim
	n     int
	epoch int
	up    bool
	tasks []*task // the engine's, which it works on

	windows  *admission.Windows
	waiting  map[*admission.Ticket]*waiter
	inPlace  int
	prefetch map[deliveryKey]input
	inFlight map[deliveryKey]*attemptRun
	posts    []*post
	pending  []*recording
	flushing int
	waking   map[*hook]bool
}

func (w *worker) start() {
	w.up = true
	w.windows = admission.New()
	w.waiting = map[*admission.Ticket]*waiter{}
	w.prefetch, w.inFlight = map[deliveryKey]input{}, map[deliveryKey]*attemptRun{}
	w.inPlace, w.posts, w.pending, w.flushing, w.waking = 0, nil, nil, 0, map[*hook]bool{}
	w.after(w.s.between(0, sweepInterval), w.sweep)
}

// after has f done in this process after d, unless that crashes before.
func (w *worker) after(d time.Duration, f func()) {
	w.s.add(step{at: w.s.now + d, w: w, epoch: w.epoch, run: f})
}

// query has f done at the instant at which a statement takes effect.
func (w *worker) query(f func()) { w.after(w.s.queryTime(), f) }

func (s *sim) queryTime() time.Duration {
	if s.chance(s.plan.slowDatabase) {
		return s.between(3*time.Millisecond, 60*time.Millisecond)
	}
	return s.between(300*time.Microsecond, 3*time.Millisecond)
}

func (w *worker) crash() {
	s := w.s
	s.logf("worker %d crashes", w.n)
	w.epoch++
	w.up = false
	s.checks.lastFault = s.now
	for _, p := range w.posts {
		if !p.recorded {
			p.lost = true
			s.postEnded(p)
		}
	}
	for _, t := range w.tasks {
		s.redo(t)
	}
	w.tasks = nil
	s.outside(s.between(50*time.Millisecond, 3*time.Second), func() {
		s.logf("worker %d starts", w.n)
		w.start()
	})
}

// route is Deliverer.RouteManual; direct gets the attempt that is to be made at once.
func (w *worker) route(a attempt, direct func(attempt), ended func()) {
	s := w.s
	w.query(func() {
		h := a.h
		if h.deleted || h.suspended || s.paused(h) {
			ended()
			return
		}
		isDirect, routed := h.health.Active && !h.health.Queued && h.health.FailureCount == 0, s.done
		w.query(func() {
			if r := s.store.rows[pair{a.ev, h}]; r != nil && h.ordered && !r.trigger.Manual() {
				w.hurry(h, a.ev, func() { // retryHeadNow
					w.askToWake(h)
					ended()
				})
				return
			}
			if isDirect && (s.store.rows[pair{a.ev, h}] == nil || s.is(redeliveryEndsSchedule)) {
				a.routed = routed
				direct(a)
				return
			}
			if s.store.deliveries[a.key()] != nil {
				ended()
				return
			}
			plan := &planned{ev: a.ev, h: h, number: a.number, trigger: a.trigger, delay: -time.Second}
			w.add(&recording{ev: a.ev, h: h, plan: plan, done: func(after recorded) {
				if !after.gone {
					w.askToWake(h)
				}
				ended()
			}})
		})
	})
}

func id(n int) uuid.UUID { return uuid.UUID{15: byte(n), 14: byte(n >> 8)} }
