package simulation

import (
	"slices"
	"time"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
)

func (w *worker) record(a attempt, in input, p *post, out outcome, f func(delivery.Result)) {
	s := w.s
	rec := &recording{ev: a.ev, h: a.h, post: p, attempt: history.Attempt{
		WebhookID: a.h.id, EventID: a.ev.id, Number: a.number, Trigger: a.trigger, Generation: in.generation, FailureRun: in.failureRun,
		Success: out.success, Class: out.class, Queued: a.row != nil || a.trigger.Manual(), Step: a.step(),
	}}
	if a.row != nil {
		rec.attempt.RecoveryID = a.row.RecoveryID
	}
	delay, more := s.plan.schedule.Delay(rec.attempt.Step, out.retryAfter, 2*s.rnd.Float64()-1)
	if more && !out.success {
		rec.attempt.RetryIn = max(time.Millisecond, delay)
	}
	rec.final = !more && rec.attempt.Step > 0
	rec.done = func(recorded) {
		if !out.success {
			w.leave(a.h)
			f(delivery.Result{Status: delivery.Failed})
			return
		}
		f(delivery.Result{Status: delivery.Delivered})
	}
	w.add(rec)
}

// add hands a recording to the recorder.
func (w *worker) add(rec *recording) {
	w.pending = append(w.pending, rec)
	if w.flushing < recorderFlushers {
		w.flushing++
		w.after(0, w.flush)
	}
}

// flush is Recorder.flushLoop: one batch after another.
func (w *worker) flush() {
	batch := w.pending
	w.pending = nil
	if len(batch) == 0 {
		w.flushing--
		return
	}
	failed := map[*hook]bool{}
	for _, rec := range batch {
		failed[rec.h] = failed[rec.h] || rec.plan == nil && !rec.attempt.Success
	}
	isPlain := func(rec *recording) bool {
		return rec.plan == nil && !rec.attempt.Queued && rec.attempt.Success && !failed[rec.h]
	}
	if !slices.ContainsFunc(batch, isPlain) {
		w.rest(batch)
		return
	}
	w.query(func() { // RecordSuccesses
		var done, rest []*recording
		for _, rec := range batch {
			if isPlain(rec) && w.s.fastSuccess(rec) {
				done = append(done, rec)
			} else {
				rest = append(rest, rec)
			}
		}
		w.after(w.s.between(0, time.Millisecond), func() {
			for _, rec := range done {
				rec.done(recorded{active: true})
			}
			w.rest(rest)
		})
	})
}

// rest is Recorder.rest: the transaction, and, after its commit, the waking of queues.
func (w *worker) rest(batch []*recording) {
	if len(batch) == 0 {
		w.after(0, w.flush)
		return
	}
	w.query(func() {
		w.query(func() {
			rows := w.s.record(batch)
			w.after(w.s.between(0, time.Millisecond), func() {
				w.planApart(batch)
				w.wakeQueues(rows, func() {
					for _, rec := range batch {
						rec.done(rec.after)
					}
					w.flush()
				})
			})
		})
	})
}

// planApart plans the next attempts by a transaction of its own, when that rule is taken out.
func (w *worker) planApart(batch []*recording) {
	if !w.s.is(planApart) {
		return
	}
	w.query(func() {
		for _, rec := range batch {
			if next := rec.next(); next != nil && rec.plan == nil && rec.h.health.Active && rec.entry != nil {
				w.askToWake(w.s.enqueue(*next).h)
			}
		}
	})
}

// wakeQueues is Recorder.WakeQueues, of rows of any webhooks.
func (w *worker) wakeQueues(rows []*row, f func()) {
	if len(rows) == 0 {
		f()
		return
	}
	w.query(func() {
		byHook := map[*hook][]*row{}
		var hooks []*hook
		for _, r := range rows {
			if byHook[r.h] == nil {
				hooks = append(hooks, r.h)
			}
			byHook[r.h] = append(byHook[r.h], r)
		}
		for _, h := range hooks {
			if w.s.unwoken(byHook[h]) && !w.s.is(noWake) {
				w.askToWake(h)
			}
		}
		f()
	})
}

// askToWake is waker.Wake: once, however often it is asked to before the call.
func (w *worker) askToWake(h *hook) {
	if w.waking[h] {
		return
	}
	w.waking[h] = true
	w.after(w.s.between(0, 2*time.Millisecond), func() {
		delete(w.waking, h)
		w.after(w.s.between(2*time.Millisecond, 30*time.Millisecond), func() { w.s.signal(h, true) })
	})
}

// sweep is waker.sweepLoop.
func (w *worker) sweep() {
	s := w.s
	w.after(sweepInterval, w.sweep)
	if s.is(noSweep) {
		return
	}
	w.query(func() {
		if s.store.sweptAt >= s.now-sweepEvery {
			return
		}
		s.store.sweptAt = s.now
		w.query(func() {
			for _, h := range s.store.hooks {
				for _, r := range h.queue {
					if !s.paused(h) && r.due < max(s.now-overdueAfter, s.store.resumedAt) {
						s.logf("the sweep finds webhook %d", h.n)
						w.askToWake(h)
						break
					}
				}
			}
			w.query(func() {
				for _, r := range s.store.recoveries {
					if r.state == history.RecoveryRunning && r.updated < s.now-sweepEvery && !s.paused(r.h) {
						w.after(s.between(2*time.Millisecond, 30*time.Millisecond), func() { s.startRecover(r.h) })
					}
				}
			})
		})
	})
}
