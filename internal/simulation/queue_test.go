package simulation

import (
	"time"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
)

// queueRun is the WebhookQueue workflow of one webhook.
type queueRun struct {
	s       *sim
	h       *hook
	running bool
	run     int

	// What the history has of the run: a crash goes back to it.
	is queueVars
	// Signals that have arrived since the run began.
	wakes, hurries int
	hurried        []*event // what each retry-now asks for; nil: all
	fired          int      // the timer that has fired
	result         *delivery.RoundResult

	task  *task
	dirty bool // something has come that the task under way does not know of
}

type phase int

const (
	looking phase = iota
	asleep
	inRound
)

// queueVars are the variables of a run.
type queueVars struct {
	phase          phase
	window, rounds int
	woken, hurried int // signals taken
	timer          int
}

// signal is SignalWithStart with wake; lossy: the call may be lost.
func (s *sim) signal(h *hook, lossy bool) {
	if lossy && s.chance(s.plan.lostWakes) && !s.resting() {
		s.logf("a wake of webhook %d is lost", h.n)
		s.checks.lastFault = s.now
		return
	}
	q := s.engine.queues[h.n]
	q.ensure()
	q.wakes++
	q.poke()
}

// retryNow is SignalWithStart with retry-now.
func (s *sim) retryNow(h *hook, ev *event) {
	q := s.engine.queues[h.n]
	q.ensure()
	q.hurries++
	q.hurried = append(q.hurried, ev)
	q.poke()
}

func (q *queueRun) ensure() {
	if !q.running {
		q.running = true
		q.begin(1)
	}
}

// begin begins a run.
func (q *queueRun) begin(window int) {
	q.run++
	q.is = queueVars{window: window, timer: q.is.timer}
	q.wakes, q.hurries, q.hurried, q.result = 0, 0, nil, nil
}

// poke gives the run a task, or has one follow that under way.
func (q *queueRun) poke() {
	if q.task != nil {
		q.dirty = true
		return
	}
	q.task = q.s.workflowTask(q.work)
	q.s.dispatch(q.task)
}

// queueTask is a run's code while one task of it is under way. It sees what had come when the task began.
type queueTask struct {
	q              *queueRun
	w              *worker
	t              *task
	v              queueVars
	wakes, hurries int
	fired          int
	result         *delivery.RoundResult
	took           bool // result
}

func (q *queueRun) work(w *worker, t *task) {
	q.dirty = false
	x := &queueTask{q: q, w: w, t: t, v: q.is, wakes: q.wakes, hurries: q.hurries, fired: q.fired, result: q.result}
	switch {
	case x.v.phase == looking, x.v.phase == asleep && (x.fired == x.v.timer || x.signalWaits()):
		x.look()
	case x.v.phase == inRound && x.result != nil:
		x.roundEnded(*x.result)
	default:
		x.commit(nil)
	}
}

func (x *queueTask) signalWaits() bool { return x.wakes > x.v.woken || x.hurries > x.v.hurried }

// signalled is queueRun.signalled: it takes those that only wake.
func (x *queueTask) signalled() bool {
	woken := x.wakes > x.v.woken
	x.v.woken = x.wakes
	return woken || x.hurries > x.v.hurried
}

func (x *queueTask) look() {
	x.v.woken = x.wakes
	if x.v.hurried < x.hurries {
		ev := x.q.hurried[x.v.hurried]
		x.v.hurried++
		x.w.hurry(x.q.h, ev, x.look)
		return
	}
	x.w.look(x.q.h, x.v.window, x.decide)
}

// decide is the loop's body.
func (x *queueTask) decide(state history.QueueState) {
	next := x.q.s.nextStep(state, x.v.window)
	switch next.Kind {
	case delivery.AttemptRows:
		x.v.phase = inRound
		x.commit(func() { x.q.startRound(next.Rows) })
	case delivery.AwaitTime:
		if x.signalWaits() {
			x.look()
			return
		}
		x.v.phase = asleep
		x.v.timer++
		x.commit(func() { x.q.startTimer(next.Wait) })
	case delivery.EndQueue:
		if x.signalled() {
			x.look()
			return
		}
		x.end(func() { x.q.running = false })
	}
}

// roundEnded is queueRun.attempt after the activity, and the end of the loop's body.
func (x *queueTask) roundEnded(r delivery.RoundResult) {
	x.took = true
	x.v.window = r.Window
	if r.State.ResumeIn > 0 || x.hurries > x.v.hurried {
		x.v.woken = x.wakes
		x.lookThen(x.roundDone)
		return
	}
	x.roundDone(r.State)
}

func (x *queueTask) lookThen(f func(history.QueueState)) {
	if x.v.hurried < x.hurries {
		ev := x.q.hurried[x.v.hurried]
		x.v.hurried++
		x.w.hurry(x.q.h, ev, func() { x.lookThen(f) })
		return
	}
	x.w.look(x.q.h, x.v.window, f)
}

func (x *queueTask) roundDone(state history.QueueState) {
	x.v.rounds++
	if x.v.rounds < x.q.s.plan.queueRounds {
		x.decide(state)
		return
	}
	if !x.signalled() {
		x.end(func() {
			x.q.begin(x.v.window)
			x.q.poke()
		})
		return
	}
	x.look()
}

// commit completes the task: what the code has come to is in the history, and f is what it has asked for.
func (x *queueTask) commit(f func()) {
	q := x.q
	x.w.after(q.s.between(time.Millisecond, 5*time.Millisecond), func() {
		x.t.end()
		q.is, q.task = x.v, nil
		if x.took {
			q.result = nil
		}
		if f != nil {
			f()
		}
		if q.dirty {
			q.poke()
		}
	})
}

// end ends the run. The server refuses that while there is something that the code has not seen.
func (x *queueTask) end(f func()) {
	q := x.q
	x.w.after(q.s.between(time.Millisecond, 5*time.Millisecond), func() {
		x.t.end()
		q.task = nil
		if q.dirty {
			q.poke()
			return
		}
		f()
	})
}

func (q *queueRun) startTimer(d time.Duration) {
	n, run := q.is.timer, q.run
	q.s.outside(d+q.s.between(0, time.Second), func() {
		if q.running && q.run == run && q.is.phase == asleep && q.is.timer == n {
			q.fired = n
			q.poke()
		}
	})
}

func (q *queueRun) startRound(rows []history.Row) {
	s, run := q.s, q.run
	window := q.is.window
	t := &task{}
	t.again = func(t *task) time.Duration {
		if s.is(roundNotRepeated) {
			return 1000 * time.Hour
		}
		return max(0, t.begun+roundTimeout-s.now) + min(10*time.Second, time.Second<<min(4, t.retries-1))
	}
	t.run = func(w *worker, t *task) {
		s.logf("worker %d makes a round of %d at webhook %d", w.n, len(rows), q.h.n)
		q.h.check.attended = s.now
		r := &delivery.RoundResult{Window: max(1, window)}
		w.runRound(q.h, rows, r, s.now+roundStint, func() {
			w.after(s.between(time.Millisecond, 5*time.Millisecond), func() {
				t.end()
				if q.run == run {
					q.result = r
					q.poke()
				}
			})
		})
	}
	s.dispatch(t)
}

// hurry is history.RetryNow: one transaction.
func (w *worker) hurry(h *hook, ev *event, f func()) {
	w.query(func() {
		h.check.attended = w.s.now // the queue itself asks
		head := w.s.head(h)
		if h.ordered && head != nil && !w.s.is(hurryJumps) {
			if ev != nil && ev != head.ev {
				f()
				return
			}
			h.resumeAt = 0
			f()
			return
		}
		for _, r := range h.queue {
			if ev == nil || r.ev == ev {
				r.due, r.changed = longAgo, w.s.now
				w.s.store.pair(r.ev, h).asked = true
			}
		}
		if h.resumeAt > w.s.now {
			h.resumeAt = 0
		}
		f()
	})
}
