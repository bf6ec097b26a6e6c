package simulation

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/admission"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// The product's, where they are not exported.
const (
	admissionPatience = 500 * time.Millisecond  // internal/delivery/admit.go
	prefetchFresh     = 2 * time.Second         // internal/delivery/prefetch.go
	ownFaultDelay     = 5 * time.Second         // internal/delivery/delivery.go
	pauseInHand       = 3500 * time.Millisecond // internal/delivery/round.go
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
			case !manual && !h.health.Active:
				skip(delivery.WebhookDisabled)
				return
			case !manual && h.events&a.ev.kind == 0:
				skip(delivery.NotSubscribed)
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
	in := input{generation: h.health.Generation, queued: h.health.Queued, readAt: s.now, readStep: s.done, enabled: h.check.enabled}
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
			if r := w.s.store.rows[pair{a.ev, a.h}]; r != nil && r.attempt == a.number {
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
		if after.gone || !after.active {
			r.Status = delivery.Skipped
		}
		f(r)
	}})
}

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
					if r.due < s.now-overdueAfter {
						s.logf("the sweep finds webhook %d", h.n)
						w.askToWake(h)
						break
					}
				}
			}
			w.query(func() {
				for _, r := range s.store.recoveries {
					if r.state == history.RecoveryRunning && r.updated < s.now-sweepEvery {
						w.after(s.between(2*time.Millisecond, 30*time.Millisecond), func() { s.startRecover(r.h) })
					}
				}
			})
		})
	})
}

// runRound is Deliverer.RunRound: window after window, while all is taken and as much more is due.
func (w *worker) runRound(h *hook, rows []history.Row, sum *delivery.RoundResult, until time.Duration, f func()) {
	made, full := sum.Made, len(rows) >= sum.Window
	w.runWindow(h, rows, sum, func() {
		next, taken := w.s.nextStep(sum.State, sum.Window), sum.Failed == 0 && sum.Made-made == len(rows)
		if !full || !taken || sum.State.FailureCount > 0 || next.Kind != delivery.AttemptRows || w.s.now > until {
			f()
			return
		}
		w.runRound(h, next.Rows, sum, until, f)
	})
}

// nextStep is delivery.NextStep, with the rules that are taken out.
func (s *sim) nextStep(state history.QueueState, window int) delivery.QueueStep {
	if s.is(wideWhileFailing) {
		state.FailureCount = 0
	}
	if s.is(noPause) {
		state.ResumeIn = 0
	}
	return delivery.NextStep(state, window)
}

// runWindow is Deliverer.runWindow, after it has narrowed the round.
func (w *worker) runWindow(h *hook, rows []history.Row, sum *delivery.RoundResult, f func()) {
	s := w.s
	if s.is(runReadByRow) {
		w.attemptRows(h, rows, nil, sum, f)
		return
	}
	w.query(func() {
		in := s.read(h)
		q, _ := s.queueState(h)
		switch {
		case q.FailureCount == 0 || h.deleted:
			w.attemptRows(h, rows, &in, sum, f)
		case q.ResumeIn > 0 && !rows[0].Trigger.Manual():
			w.lookAfter(h, 0, sum, f)
		default:
			w.attemptRows(h, rows[:1], &in, sum, f)
		}
	})
}

func (w *worker) attemptRows(h *hook, rows []history.Row, in *input, sum *delivery.RoundResult, f func()) {
	left := len(rows)
	for _, r := range rows {
		w.after(w.s.between(0, time.Millisecond), func() {
			a := attempt{ev: w.s.store.byID[r.EventID], h: h, number: r.Attempt, trigger: r.Trigger, row: &r, round: in}
			w.run(a, func(ended delivery.Result) {
				w.rowEnded(h, a, ended, func() {
					switch ended.Status {
					case delivery.Delivered:
						sum.Made++
					case delivery.Failed:
						sum.Made++
						sum.Failed++
					}
					if left--; left == 0 {
						w.lookAfter(h, len(rows), sum, f)
					}
				})
			})
		})
	}
}

// lookAfter looks at the queue after a window's attempts.
func (w *worker) lookAfter(h *hook, rows int, sum *delivery.RoundResult, f func()) {
	sum.Window = delivery.NextWindow(sum.Window, rows, sum.Failed)
	w.lookOnce(h, sum.Window, func(q history.QueueState) {
		sum.State = q
		f()
	})
}

func (w *worker) rowEnded(h *hook, a attempt, r delivery.Result, f func()) {
	if r.Status != delivery.Skipped || r.Error == delivery.NotPlanned {
		f()
		return
	}
	w.query(func() {
		w.s.removeAttempted(a.ev, h, a.number)
		f()
	})
}

// look is Deliverer.Look: it waits out a short pause by itself.
func (w *worker) look(h *hook, most int, f func(history.QueueState)) {
	w.lookOnce(h, most, func(q history.QueueState) {
		if q.Gone || len(q.Due) == 0 || q.Due[0].Trigger.Manual() || q.ResumeIn <= 0 || q.ResumeIn > pauseInHand {
			f(q)
			return
		}
		w.after(q.ResumeIn, func() { w.lookOnce(h, most, f) })
	})
}

// lookOnce is history.Queue.Look.
func (w *worker) lookOnce(h *hook, most int, f func(history.QueueState)) {
	w.read(h, most, func(q history.QueueState, queued bool) {
		if !queued || q.FailureCount > 0 && !w.s.is(directWhileFailing) || len(q.Due) > 0 && !w.s.is(directWithRowsDue) {
			f(q)
			return
		}
		w.query(func() {
			w.s.setDirect(h)
			w.read(h, most, func(q history.QueueState, _ bool) { f(q) })
		})
	})
}

// read is history.Queue.read: two statements.
func (w *worker) read(h *hook, most int, f func(q history.QueueState, queued bool)) {
	w.query(func() {
		h.check.attended = w.s.now
		if h.deleted {
			w.query(func() {
				w.s.removeRows(h, func(*row) bool { return true })
				f(history.QueueState{Gone: true}, false)
			})
			return
		}
		q, queued := w.s.queueState(h)
		w.query(func() {
			for _, r := range w.s.due(h, most) {
				q.Due = append(q.Due, r.taken())
			}
			f(q, queued)
		})
	})
}

// route is Deliverer.RouteManual; direct gets the attempt that is to be made at once.
func (w *worker) route(a attempt, direct func(attempt), ended func()) {
	s := w.s
	w.query(func() {
		h := a.h
		if h.deleted {
			ended()
			return
		}
		isDirect, routed := h.health.Active && !h.health.Queued && h.health.FailureCount == 0, s.done
		w.query(func() {
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
