package simulation

import (
	"slices"
	"time"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// engine is Temporal: it gives tasks to workers, and again to others when a worker crashes.
type engine struct {
	queues   []*queueRun   // by webhook
	recovers []*recoverRun // by webhook
	manual   map[deliveryKey]bool
	open     int // event workflows that have not ended
	runs     int
}

const (
	workflowTaskTimeout = 10 * time.Second
	roundTimeout        = 20 * time.Second // activities/activities.go
)

// task is work given to a worker.
type task struct {
	w       *worker
	run     func(w *worker, t *task)
	again   func(t *task) time.Duration // after a crash, when it is given to another
	begun   time.Duration
	ended   bool
	retries int
}

// dispatch gives a task to a worker that runs.
func (s *sim) dispatch(t *task) {
	s.outside(s.between(time.Millisecond, s.plan.engineLag), func() {
		var up []*worker
		for _, w := range s.workers {
			if w.up {
				up = append(up, w)
			}
		}
		if len(up) == 0 {
			s.outside(200*time.Millisecond, func() { s.dispatch(t) })
			return
		}
		w := up[s.rnd.IntN(len(up))]
		t.w, t.begun = w, s.now
		w.tasks = append(w.tasks, t)
		w.after(s.between(0, time.Millisecond), func() { t.run(w, t) })
	})
}

// redo gives a task of a crashed worker to another, once the engine knows of it.
func (s *sim) redo(t *task) {
	if t.ended {
		return
	}
	t.retries++
	s.outside(t.again(t), func() {
		if !t.ended {
			s.dispatch(t)
		}
	})
}

func (t *task) end() {
	t.ended = true
	if t.w != nil {
		t.w.tasks = slices.DeleteFunc(t.w.tasks, func(other *task) bool { return other == t })
	}
}

// workflowTask is a task with which local activities run: a crash loses what they returned.
func (s *sim) workflowTask(run func(w *worker, t *task)) *task {
	return &task{run: run, again: func(t *task) time.Duration {
		return s.between(0, max(0, t.begun+workflowTaskTimeout-s.now))
	}}
}

// eventRun is DeliverEvent.
type eventRun struct {
	n        int
	ev       *event
	accepted bool // AcceptEvent's result is in the history
	targets  []*hook
}

func (s *sim) startEvent(ev *event) {
	s.engine.runs++
	s.engine.open++
	r := &eventRun{n: s.engine.runs, ev: ev}
	s.outside(s.between(0, 5*time.Millisecond), func() { s.dispatch(s.eventTask(r)) })
}

func (s *sim) eventTask(r *eventRun) *task {
	return s.workflowTask(func(w *worker, t *task) {
		if s.chance(s.plan.lostTasks) && !s.resting() {
			s.loseTask(r, w, t)
		}
		if r.accepted {
			s.deliver(r, w, t, r.targets)
			return
		}
		w.accept(r, func(duplicate bool, targets []*hook) {
			if duplicate {
				s.endEvent(w, t)
				return
			}
			if s.chance(0.1) { // the history gets the result before the deliveries end, as after eight seconds
				r.accepted, r.targets = true, targets
			}
			s.deliver(r, w, t, targets)
		})
	})
}

// loseTask has the engine take a worker for dead that goes on.
func (s *sim) loseTask(r *eventRun, w *worker, t *task) {
	t.end()
	s.checks.lastFault = s.now + workflowTaskTimeout
	s.logf("the task of %s at worker %d is lost", r.ev.id, w.n)
	again := s.eventTask(r)
	s.outside(workflowTaskTimeout, func() { s.dispatch(again) })
}

func (s *sim) deliver(r *eventRun, w *worker, t *task, targets []*hook) {
	left := len(targets)
	if left == 0 {
		s.endEvent(w, t)
		return
	}
	for _, h := range targets {
		a := attempt{ev: r.ev, h: h, number: 1, trigger: webhook.TriggerEvent}
		w.after(s.between(0, time.Millisecond), func() {
			w.run(a, func(delivery.Result) {
				if left--; left == 0 {
					s.endEvent(w, t)
				}
			})
		})
	}
}

func (s *sim) endEvent(w *worker, t *task) {
	w.after(s.between(time.Millisecond, 5*time.Millisecond), func() {
		if t.ended { // it was lost
			return
		}
		t.end()
		s.engine.open--
	})
}

// accept is Deliverer.Accept.
func (w *worker) accept(r *eventRun, f func(duplicate bool, targets []*hook)) {
	s, ev := w.s, r.ev
	w.query(func() { // InsertEvent
		if other := s.store.inserting[ev.id]; other != nil && other.epoch == other.w.epoch {
			w.after(time.Millisecond, func() { w.accept(r, f) }) // it waits for the other's commit
			return
		}
		stored := s.store.byID[ev.id]
		if stored == nil {
			s.store.inserting[ev.id] = &insertion{w, w.epoch}
			ev.acceptedAt, ev.owner = s.now, r.n
			stored = ev
		}
		w.after(s.between(0, time.Millisecond), func() { w.address(r, stored, stored.committed > 0, f) })
	})
}

// address is AddressEvent, with the commit, and what Deliverer.audience makes of it.
func (w *worker) address(r *eventRun, ev *event, repeated bool, f func(duplicate bool, targets []*hook)) {
	s := w.s
	type subscriber struct {
		h      *hook
		in     input
		served bool
	}
	var subscribers []subscriber // as the statement's snapshot shows them
	for _, h := range s.store.hooks {
		if h.subscribes(ev.kind) {
			subscribers = append(subscribers, subscriber{h, s.read(h), s.store.pair(ev, h).last > 0})
		}
	}
	snapshot := s.now
	s.store.seq += len(subscribers)
	first := s.store.seq
	w.after(s.between(0, 2*time.Millisecond), func() { // the commit
		if !repeated {
			s.commitEvent(ev)
			for _, x := range subscribers {
				s.checks.accepted = append(s.checks.accepted, acceptance{pair{ev, x.h}, snapshot, !x.in.queued})
			}
		}
		if ev.owner != r.n {
			f(true, nil)
			return
		}
		var rows []*row
		var targets []*hook
		for i, x := range subscribers {
			if !x.in.queued {
				targets = append(targets, x.h)
				if !repeated {
					w.prefetch[deliveryKey{ev, x.h, 1}] = x.in
				}
				continue
			}
			if !x.served && s.store.rows[pair{ev, x.h}] == nil && !x.h.deleted {
				rows = append(rows, s.insert(&row{ev: ev, h: x.h, seq: first - i, attempt: 1, step: 1, trigger: webhook.TriggerEvent, due: ev.acceptedAt}))
			}
		}
		w.after(s.between(0, time.Millisecond), func() {
			w.wakeQueues(rows, func() {
				if !repeated || len(targets) == 0 || s.is(servedNotLeftOut) {
					f(false, targets)
					return
				}
				w.query(func() { // DeliveredOf
					f(false, slices.DeleteFunc(targets, func(h *hook) bool {
						return s.store.pair(ev, h).last > 0 || s.store.rows[pair{ev, h}] != nil
					}))
				})
			})
		})
	})
}

func (s *sim) commitEvent(ev *event) {
	delete(s.store.inserting, ev.id)
	ev.committed = s.now
	s.store.byID[ev.id] = ev
	s.store.events = append(s.store.events, ev)
	slices.SortStableFunc(s.store.events, func(a, b *event) int { return int(a.acceptedAt - b.acceptedAt) })
	s.logf("accepted: %s", ev.id)
}

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

// hurry is history.Queue.Hurry: two statements.
func (w *worker) hurry(h *hook, ev *event, f func()) {
	w.query(func() {
		for _, r := range h.queue {
			if ev == nil || r.ev == ev {
				r.due, r.changed = longAgo, w.s.now
				w.s.store.pair(r.ev, h).asked = true
			}
		}
		w.query(func() {
			if h.resumeAt > w.s.now {
				h.resumeAt = 0
			}
			f()
		})
	})
}

// startManual is SendTest, or Redeliver of an event that was attempted.
func (s *sim) startManual(a attempt) {
	if s.engine.manual[a.key()] {
		return
	}
	s.engine.manual[a.key()] = true
	end := func(w *worker, t *task) {
		w.after(s.between(time.Millisecond, 5*time.Millisecond), func() {
			t.end()
			delete(s.engine.manual, a.key())
		})
	}
	s.dispatch(s.workflowTask(func(w *worker, t *task) {
		route := func() {
			w.route(a, func(a attempt) {
				w.run(a, func(delivery.Result) { end(w, t) })
			}, func() { end(w, t) })
		}
		if a.trigger != webhook.TriggerTest || s.store.byID[a.ev.id] != nil {
			route()
			return
		}
		w.query(func() {
			a.ev.acceptedAt = s.now
			s.commitEvent(a.ev)
			route()
		})
	}))
}
