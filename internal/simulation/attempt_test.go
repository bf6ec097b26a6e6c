package simulation

import (
	"time"

	"github.com/mathub/webhooks/internal/admission"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// waiter is a delivery that waits for a place.
type waiter struct {
	h       *hook
	offered time.Duration
	settled bool
	f       func(*admission.Ticket)
}

// attemptRun is an attempt in flight, and who waits for its result.
type attemptRun struct{ waiting []func(delivery.Result) }

// attempt is delivery.Attempt.
type attempt struct {
	ev      *event
	h       *hook
	number  int
	trigger webhook.Trigger
	row     *history.Row
	round   *input // what the queue's round has read of the webhook
	routed  int    // when it was decided that a person's attempt is direct, in steps; 0: it was not
}

func (a attempt) key() deliveryKey { return deliveryKey{a.ev, a.h, a.number} }

func (a attempt) step() int {
	switch {
	case a.row != nil:
		return a.row.Step
	case a.trigger.Manual():
		return 0
	}
	return a.number
}

// input is attemptInput.
type input struct {
	generation, failureRun int32
	queued                 bool
	readAt                 time.Duration
	readStep               int
	enabled                int
}

// run is Deliverer.Run: it makes the attempt, or waits for the one in flight.
func (w *worker) run(a attempt, f func(delivery.Result)) {
	if running := w.inFlight[a.key()]; running != nil {
		running.waiting = append(running.waiting, f)
		return
	}
	running := &attemptRun{waiting: []func(delivery.Result){f}}
	w.inFlight[a.key()] = running
	w.prepare(a, func(r delivery.Result) {
		delete(w.inFlight, a.key())
		for _, f := range running.waiting {
			f(r)
		}
	})
}

func (w *worker) prepare(a attempt, f func(delivery.Result)) {
	in, prefetched := w.prefetch[a.key()]
	delete(w.prefetch, a.key())
	if prefetched && w.s.now-in.readAt < prefetchFresh {
		w.exchange(a, in, f)
		return
	}
	w.settled(a, f, func() { w.load(a, f) })
}

// settled answers for an attempt that is recorded, planned or of no more use already; else it goes on.
func (w *worker) settled(a attempt, f func(delivery.Result), goOn func()) {
	s := w.s
	if s.is(noSettledCheck) || s.is(servedNotLeftOut) && a.row == nil {
		goOn()
		return
	}
	w.query(func() {
		if e := s.store.deliveries[a.key()]; e != nil {
			r := delivery.Result{Status: delivery.Failed}
			if e.success {
				r.Status = delivery.Delivered
			}
			if a.row == nil || s.is(recordedRowStays) {
				f(r)
				return
			}
			w.query(func() {
				s.removeAttempted(a.ev, a.h, a.number)
				f(r)
			})
			return
		}
		if a.row == nil && a.trigger.Manual() {
			goOn()
			return
		}
		w.query(func() {
			planned := s.store.rows[pair{a.ev, a.h}]
			switch {
			case a.row == nil && planned != nil:
				f(delivery.Result{Status: delivery.Queued})
			case a.row != nil && (planned == nil || planned.attempt != a.number):
				f(delivery.Result{Status: delivery.Skipped, Error: delivery.NotPlanned})
			case a.trigger == webhook.TriggerRecover && !s.is(recoveryIgnoresSuccess):
				w.query(func() {
					if s.store.pair(a.ev, a.h).success {
						f(delivery.Result{Status: delivery.Skipped, Error: delivery.AlreadyTaken})
						return
					}
					goOn()
				})
			default:
				goOn()
			}
		})
	})
}

// load reads what the attempt needs, or says why it is to be skipped.
func (w *worker) load(a attempt, f func(delivery.Result)) {
	w.query(func() { // the event
		w.query(func() { // GetTarget
			h, manual := a.h, a.trigger.Manual()
			skip := func(why string) { f(delivery.Result{Status: delivery.Skipped, Error: why}) }
			switch {
			case h.deleted:
				skip(delivery.WebhookGone)
				return
			case h.suspended && !w.s.is(suspendedIsSent):
				skip(delivery.BotSuspended)
				return
			case !manual && !h.health.Active:
				skip(delivery.WebhookDisabled)
				return
			case !manual && h.events&a.ev.kind == 0:
				skip(delivery.NotSubscribed)
				return
			case w.s.paused(h) && a.row != nil && !w.s.is(pausedIsSent):
				f(delivery.Result{Status: delivery.Queued})
				return
			case w.s.paused(h) && manual && !w.s.is(pausedIsSent):
				skip(delivery.Paused)
				return
			}
			in := w.s.read(h)
			if a.round != nil {
				in.failureRun, in.readStep = a.round.failureRun, a.round.readStep
			}
			if a.routed > 0 {
				in.readStep = a.routed
			}
			if in.queued && a.row == nil && !manual {
				w.leaveToQueue(a, false, f)
				return
			}
			w.exchange(a, in, f)
		})
	})
}

// read is what GetTarget and AddressEvent read of a webhook.
func (s *sim) read(h *hook) input {
	in := input{generation: h.health.Generation, queued: h.health.Queued || s.paused(h) && !s.is(pausedStaysDirect), readAt: s.now, readStep: s.done, enabled: h.check.enabled}
	if h.health.FailureCount > 0 {
		in.failureRun = h.health.FailureRun
	}
	return in
}

// exchange makes the POST as soon as there is a place for it.
func (w *worker) exchange(a attempt, in input, f func(delivery.Result)) {
	if a.row != nil || a.trigger.Manual() {
		w.post(a, in, nil, f)
		return
	}
	w.enter(a.h, func(t *admission.Ticket) {
		if t == nil {
			w.leaveToQueue(a, false, f)
			return
		}
		w.post(a, in, t, f)
	})
}

// enter is gate.enter: f gets a ticket that is granted, or nil.
func (w *worker) enter(h *hook, f func(*admission.Ticket)) {
	t := w.windows.Offer(h.id, h.bot)
	if t.Granted() {
		w.inPlace++
		w.after(0, func() { f(t) })
		return
	}
	x := &waiter{h: h, offered: w.s.now, f: f}
	w.waiting[t] = x
	patience := admissionPatience
	if w.s.is(noPatience) {
		patience = time.Hour
	}
	w.after(patience, func() { w.settle(t, x) })
}

func (w *worker) settle(t *admission.Ticket, x *waiter) {
	if x.settled {
		return
	}
	x.settled = true
	delete(w.waiting, t)
	if !t.Granted() {
		w.windows.Withdraw(t)
		x.f(nil)
		return
	}
	w.s.checkWait(w, x)
	w.inPlace++
	x.f(t)
}

// wake wakes those who wait, as closing their channels does.
func (w *worker) wake(tickets []*admission.Ticket) {
	for _, t := range tickets {
		if x := w.waiting[t]; x != nil {
			w.after(w.s.between(0, time.Millisecond), func() { w.settle(t, x) })
		}
	}
}

// leave is gate.leave.
func (w *worker) leave(h *hook) {
	h.check.leave(w, w.s.now)
	if !w.s.is(waitersStay) {
		w.wake(w.windows.Leave(h.id))
	}
}

func (w *worker) post(a attempt, in input, t *admission.Ticket, f func(delivery.Result)) {
	s := w.s
	release := func(o admission.Outcome) {
		if t != nil {
			w.inPlace--
			w.wake(w.windows.Ended(t, o))
		}
	}
	if s.chance(s.plan.ownFaults) && !s.resting() {
		s.logf("worker %d cannot attempt %s at webhook %d, by a fault of its own", w.n, a.ev.id, a.h.n)
		s.store.pair(a.ev, a.h).faulted = true
		release(admission.NotMade)
		w.leaveToQueue(a, true, f)
		return
	}
	p := s.postBegins(w, a, in)
	took, out := s.answer(a.h, a.ev)
	w.after(took, func() {
		s.postEnded(p)
		outcome := admission.Failed
		if out.success {
			outcome = admission.Taken
		}
		release(outcome)
		w.record(a, in, p, out, f)
	})
}

// leaveToQueue has the webhook's queue make an attempt that could not be made here.
func (w *worker) leaveToQueue(a attempt, fault bool, f func(delivery.Result)) {
	var delay time.Duration
	if fault {
		delay = w.s.between(ownFaultDelay*8/10, ownFaultDelay*12/10)
	}
	switch {
	case fault && a.row == nil && a.trigger.Manual():
		f(delivery.Result{Status: delivery.Skipped})
		return
	case a.row != nil:
		w.query(func() {
			switch r := w.s.store.rows[pair{a.ev, a.h}]; {
			case r == nil || r.attempt != a.number:
			case a.h.ordered && !a.row.Trigger.Manual() && !w.s.is(postponedMoves):
				a.h.resumeAt = max(a.h.resumeAt, w.s.now+delay)
			default:
				r.due = w.s.now + delay
			}
			f(delivery.Result{Status: delivery.Queued})
		})
		return
	}
	plan := &planned{ev: a.ev, h: a.h, number: a.number, step: a.step(), trigger: a.trigger, delay: delay}
	w.add(&recording{ev: a.ev, h: a.h, plan: plan, done: func(after recorded) {
		if !fault {
			w.leave(a.h)
		}
		r := delivery.Result{Status: delivery.Queued}
		if after.gone || !after.active || a.h.suspended {
			r.Status = delivery.Skipped
		}
		f(r)
	}})
}
