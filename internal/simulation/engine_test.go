package simulation

import (
	"slices"
	"time"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/webhook"
)

// engine is Temporal: it gives tasks to workers, and again to others when a worker crashes.
type engine struct {
	queues   []*queueRun   // by webhook
	recovers []*recoverRun // by webhook
	manual   map[deliveryKey]bool
	batches  map[*event]bool // the DeliverBatch workflows that run
	open     int             // event workflows that have not ended
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
		deliver := func(targets []*hook) {
			s.startBatch(r.ev)
			s.deliver(r.ev, w, targets, func() { s.endEvent(w, t) })
		}
		if r.accepted {
			deliver(r.targets)
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
			deliver(targets)
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

func (s *sim) deliver(ev *event, w *worker, targets []*hook, end func()) {
	left := len(targets)
	if left == 0 {
		end()
		return
	}
	for _, h := range targets {
		a := attempt{ev: ev, h: h, number: 1, trigger: webhook.TriggerEvent}
		w.after(s.between(0, time.Millisecond), func() {
			w.run(a, func(delivery.Result) {
				if left--; left == 0 {
					end()
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
		h       *hook
		in      input
		served  bool
		ordered bool
		turns   bool
	}
	var subscribers []subscriber // as the statement's snapshot shows them
	for _, h := range s.store.hooks {
		// A repetition adds no row of a webhook that was ordered before.
		if h.subscribes(ev.kind) && !(repeated && h.ordered && h.from <= ev.acceptedAt) {
			subscribers = append(subscribers, subscriber{h, s.read(h), s.store.pair(ev, h).last > 0, h.ordered, s.paused(h) && !h.health.Queued})
		}
	}
	snapshot := s.now
	inOrder := slices.ContainsFunc(subscribers, func(x subscriber) bool { return x.ordered })
	w.lockOrder(inOrder, func(release func()) {
		due := map[*hook]time.Duration{}
		for _, x := range subscribers {
			if due[x.h] = ev.acceptedAt; x.ordered && !repeated {
				due[x.h] = s.placeOf(ev, x.h)
			}
		}
		s.store.seq += len(subscribers)
		first := s.store.seq
		w.after(s.between(0, 2*time.Millisecond), func() { // the commit
			release()
			if !repeated {
				s.commitEvent(ev)
				for _, x := range subscribers {
					s.checks.accepted = append(s.checks.accepted, acceptance{pair{ev, x.h}, snapshot, !x.in.queued && !s.inSecondPage(x.h)})
				}
			}
			if ev.owner != r.n {
				f(true, nil)
				return
			}
			var rows []*row
			var targets []*hook
			for i, x := range subscribers {
				switch {
				case s.inSecondPage(x.h) && !x.ordered:
					continue
				case !x.in.queued:
					targets = append(targets, x.h)
					if !repeated {
						w.prefetch[deliveryKey{ev, x.h, 1}] = x.in
					}
					continue
				}
				if !x.served && s.store.rows[pair{ev, x.h}] == nil && !x.h.deleted {
					rows = append(rows, s.insert(&row{ev: ev, h: x.h, seq: first - i, attempt: 1, step: 1, trigger: webhook.TriggerEvent, due: due[x.h], turns: x.turns}))
					if x.ordered && x.h.ordered && !repeated && x.h.health.Active && x.in.enabled == x.h.check.enabled {
						x.h.check.order.accepted = append(x.h.check.order.accepted, ev)
					}
				}
			}
			w.afterAddress(ev, repeated, rows, targets, f)
		})
	})
}

// afterAddress wakes the queues that got rows, and leaves out of the targets what is served already.
func (w *worker) afterAddress(ev *event, repeated bool, rows []*row, targets []*hook, f func(duplicate bool, targets []*hook)) {
	s := w.s
	w.turnQueued(rows, func() {
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
}

func (s *sim) commitEvent(ev *event) {
	delete(s.store.inserting, ev.id)
	ev.committed = s.now
	s.store.byID[ev.id] = ev
	s.store.events = append(s.store.events, ev)
	slices.SortStableFunc(s.store.events, func(a, b *event) int { return int(a.acceptedAt - b.acceptedAt) })
	s.logf("accepted: %s", ev.id)
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
