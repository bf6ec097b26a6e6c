package simulation

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/mathub/webhooks/internal/admission"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// checks are what must hold after each step, and at rest.
type checks struct {
	violation string
	lastFault time.Duration // when a process crashed, or a wake was lost
	accepted  []acceptance
	exempt    int // troubles that found a webhook failing already
}

// acceptance is an event that was accepted for a webhook, and whether that was direct then.
type acceptance struct {
	pair
	at     time.Duration
	direct bool
}

// hookCheck is what the checks know of a webhook.
type hookCheck struct {
	log      []*entry // of its history, since it was last enabled
	enabled  int
	run      int // runs of failures
	runBegan int // the step in which the present one's first failure was recorded; 0: there is none
	flying   []*post
	posts    int
	attended time.Duration // when its queue was last seen to
	off      map[uint8]time.Duration
	offStep  int // when it was last disabled
	leftAt   map[*worker]time.Duration
	touched  bool // somebody changed it, or asked it for something
	exempt   bool // from what a short trouble must not do
	firstBad time.Duration
	order    orderCheck

	paused, suspended time.Duration // since when; 0: it is not
	resumed           time.Duration // when its last pause ended
}

// post is one POST.
type post struct {
	ev       *event
	h        *hook
	w        *worker
	number   int
	run      int // the run of failures that was known when the attempt was prepared; 0: none
	readAt   int
	enabled  int
	begun    time.Duration
	recorded bool
	manual   bool // a person asked for it
	ordered  bool // the webhook was
	lost     bool // its worker crashed before it was recorded
}

func (s *sim) fail(format string, args ...any) {
	if s.checks.violation == "" {
		s.checks.violation = fmt.Sprintf(format, args...)
		s.logf("VIOLATION: %s", s.checks.violation)
	}
}

// postBegins checks that a POST may be made.
func (s *sim) postBegins(w *worker, a attempt, in input) *post {
	h, p := a.h, &post{ev: a.ev, h: a.h, w: w, number: a.number, readAt: in.readStep, enabled: in.enabled, begun: s.now, manual: a.trigger.Manual(), ordered: a.h.ordered}
	if h.check.runBegan > 0 && in.readStep > h.check.runBegan {
		p.run = h.check.run
	}
	s.logf("worker %d posts %s to webhook %d, attempt %d (%s)", w.n, a.ev.id, h.n, a.number, a.trigger)
	known := s.store.pair(a.ev, h)
	for _, before := range known.posts {
		switch {
		case before.lost, known.asked: // a person may ask for what is in flight
		case (a.trigger == webhook.TriggerRecover || known.cancelled) && s.checks.lastFault >= a.ev.committed:
			// A crash has put off the direct attempt, and a recovery has come between.
		case a.trigger == webhook.TriggerRecover && s.inSecondPage(h) && !h.wasActive(a.ev):
			// Its page came late, when the webhook was active again: a recovery does not wait for what came before.
		case before.number == a.number && before.recorded:
			s.fail("%s attempt %d is sent to webhook %d again, although it was recorded", a.ev.id, a.number, h.n)
		case !before.recorded:
			s.fail("%s is sent to webhook %d by attempt %d while attempt %d is not recorded, and no crash explains it", a.ev.id, h.n, a.number, before.number)
		}
	}
	if known.success && !a.trigger.Manual() && !known.asked {
		s.fail("%s is sent to webhook %d again, which has taken it", a.ev.id, h.n)
	}
	for _, other := range h.check.flying {
		if p.run > 0 && other.run == p.run {
			s.fail("two attempts at webhook %d, which is known to fail, are in flight: %s and %s", h.n, other.ev.id, a.ev.id)
		}
	}
	if !a.trigger.Manual() && !h.health.Active && in.readStep > h.check.offStep {
		s.fail("%s is sent to webhook %d, which is disabled", a.ev.id, h.n)
	}
	s.checkStopped(a, in)
	s.checkPrompt(a)
	s.checkOrder(a)
	known.posts = append(known.posts, p)
	h.check.flying = append(h.check.flying, p)
	h.check.posts++
	w.posts = append(slices.DeleteFunc(w.posts, func(p *post) bool { return p.recorded }), p)
	return p
}

// healthyWithin is how soon after acceptance a healthy webhook's first attempt begins.
const healthyWithin = 600 * time.Millisecond

func (s *sim) checkPrompt(a attempt) {
	if a.trigger != webhook.TriggerEvent || a.number > 1 || s.store.pair(a.ev, a.h).faulted || a.h.check.touched || !a.h.receiver.healthy() || s.checks.lastFault >= a.ev.acceptedAt {
		return
	}
	for i := len(s.checks.accepted) - 1; i >= 0; i-- {
		if x := s.checks.accepted[i]; x.ev == a.ev && x.h == a.h {
			if late := s.now - a.ev.committed; x.direct && late > healthyWithin {
				s.fail("%s is sent to webhook %d, which is healthy, %v after it was accepted", a.ev.id, a.h.n, late)
			}
			return
		}
	}
}

func (r *receiver) healthy() bool {
	return r.most <= 50*time.Millisecond && len(r.spans) == 0 && len(r.poison) == 0
}

// postEnded: the POST is over, or its process.
func (s *sim) postEnded(p *post) {
	p.h.check.flying = slices.DeleteFunc(p.h.check.flying, func(other *post) bool { return other == p })
}

func (s *sim) settlePost(rec *recording) { rec.post.recorded = true }

// checkRecorded checks a row of deliveries before it is added.
func (s *sim) checkRecorded(rec *recording) {
	if s.store.deliveries[deliveryKey{rec.ev, rec.h, rec.attempt.Number}] != nil {
		s.fail("%s attempt %d at webhook %d is recorded twice", rec.ev.id, rec.attempt.Number, rec.h.n)
	}
	c, e := &rec.h.check, rec.entry
	switch {
	case e.success:
		c.runBegan = 0
	case e.counts && c.runBegan == 0:
		c.run++
		c.runBegan = s.done
		if c.firstBad == 0 {
			c.firstBad = s.now
		}
	}
}

// checkCount reckons the failure count anew from the history, as the contract says it.
func (s *sim) checkCount(h *hook) {
	first, early, later := -1, 0, 0
	for _, e := range h.check.log {
		switch {
		case e.success:
			first, early, later = -1, 0, 0
		case !e.counts:
		case first < 0:
			first, early = e.recorded, 1
		case e.readAt < first:
			early++
		default:
			later++
		}
	}
	if want := min(early, 5) + later; int(h.health.FailureCount) != want {
		s.fail("the failure count of webhook %d is %d; its history says %d", h.n, h.health.FailureCount, want)
	}
	if h.health.Active && h.health.FailureCount >= webhook.MaxFailures {
		s.fail("webhook %d is active after %d failures", h.n, h.health.FailureCount)
	}
}

// checkDisabling checks a disabling by failures.
func (s *sim) checkDisabling(h *hook) {
	h.check.off[typeA], h.check.off[typeB] = s.now, s.now
	h.check.offStep = s.done
	h.forgetOrder()
	if h.health.FailureCount < webhook.MaxFailures {
		s.fail("webhook %d is disabled after %d failures", h.n, h.health.FailureCount)
	}
	if s.plan.shortTroubles && !h.check.exempt {
		s.fail("webhook %d is disabled, although none of its troubles is longer than 12 s", h.n)
	}
}

// checkDisabled checks the queue of a webhook that was just disabled.
func (s *sim) checkDisabled(h *hook) {
	if slices.ContainsFunc(h.queue, func(r *row) bool { return !r.trigger.Manual() }) {
		s.fail("webhook %d is disabled, and its queue is not cleared", h.n)
	}
}

// checkDirect checks a webhook that has just turned direct.
func (s *sim) checkDirect(h *hook) {
	if h.health.FailureCount > 0 || len(s.due(h, 1)) > 0 {
		s.fail("webhook %d turns direct with %d failures and %d rows due", h.n, h.health.FailureCount, len(s.due(h, 1000)))
	}
}

func (c *hookCheck) leave(w *worker, now time.Duration) { c.leftAt[w] = now }

// checkWait checks how long a delivery waited that has got its place.
func (s *sim) checkWait(w *worker, x *waiter) {
	const slack = 2 * time.Millisecond
	if s.now > x.offered+admissionPatience+slack {
		s.fail("a delivery to webhook %d waited %v for a place", x.h.n, s.now-x.offered)
	}
	if left := x.h.check.leftAt[w]; left > x.offered && s.now > left+slack {
		s.fail("a delivery to webhook %d still waits for a place %v after the webhook turned queued", x.h.n, s.now-left)
	}
}

// Bounds of the watch.
const (
	// attendedWithin is how late a queue is seen to when no crash and no lost wake explains it: a timeout of 5 s and the
	// longest rest, with what Temporal's timers are late.
	attendedWithin = 12 * time.Second
	// foundWithin is how late after a crash, with the time of the calls.
	foundWithin = 46 * time.Second
	// restWithin is how long a run may take to come to rest.
	restWithin = 30 * time.Hour
)

// watch checks now and then what no single step can break, and ends the run at rest.
func (s *sim) watch() {
	for _, h := range s.store.hooks {
		s.checkAttended(h)
		s.checkFailingForGood(h)
	}
	for _, w := range s.workers {
		if w.up {
			s.checkMemory(w)
		}
	}
	if s.resting() && s.atRest() {
		s.checkRest()
		s.steps = nil
		return
	}
	if s.now > s.plan.end+restWithin {
		s.fail("the run does not come to rest")
	}
	pause := time.Second
	if s.resting() {
		pause = 5 * time.Second
	}
	s.outside(pause, s.watch)
}

func (s *sim) checkAttended(h *hook) {
	for _, r := range h.queue {
		if s.paused(h) {
			return
		}
		since := max(r.due, r.changed, h.check.attended, h.check.resumed)
		if h.ordered {
			since = max(since, h.resumeAt, h.from)
		}
		within := attendedWithin
		if s.checks.lastFault >= min(r.changed, h.check.attended)-time.Second {
			within = foundWithin // the queue may not have been seen to since
		}
		if r.due <= s.now && s.now > max(since+within, s.checks.lastFault+foundWithin) {
			s.fail("%s has been due at webhook %d for %v, and nobody sees to it", r.ev.id, h.n, s.now-since)
		}
	}
}

// Of a receiver that fails for good while events come all the time.
const (
	disabledAtOnceWithin = 20 * time.Second // of its first failure, where it fails at once
	disabledWithin       = 90 * time.Second
)

func (s *sim) checkFailingForGood(h *hook) {
	x := s.plan.forGood
	if x == nil || h.n > 0 || s.now < x.from {
		return
	}
	if !h.health.Active {
		// A window's worth of each worker, and ten that are made by the queue.
		if posts := h.check.posts - s.plan.postsBefore; posts > admission.FirstWindow*s.plan.workers+webhook.MaxFailures {
			s.fail("webhook %d took %d POSTs to be disabled", h.n, posts)
		}
		return
	}
	if s.plan.postsBefore == 0 {
		s.plan.postsBefore = h.check.posts
	}
	if len(s.plan.crashes) > 0 {
		return
	}
	atOnce := x.kind == unavailable || x.kind == refusing
	if first := h.check.firstBad; first > 0 && (atOnce && s.now > first+disabledAtOnceWithin+time.Second || s.now > x.from+disabledWithin+time.Second) {
		s.fail("webhook %d fails since %v and is not disabled yet", h.n, x.from)
	}
}

// checkMemory checks that windows are kept for what is in flight or waits only.
func (s *sim) checkMemory(w *worker) {
	load := w.inPlace + len(w.waiting)
	inFlight, waiting := w.windows.Load()
	kept := reflect.ValueOf(w.windows).Elem().FieldByName("webhooks").Len()
	if kept > load || inFlight+waiting > load {
		s.fail("worker %d keeps %d windows, with %d in flight and %d waiting, for %d deliveries", w.n, kept, inFlight, waiting, load)
	}
}

func (s *sim) atRest() bool {
	if s.emitting > 0 || s.engine.open > 0 || len(s.engine.manual) > 0 {
		return false
	}
	for _, h := range s.store.hooks {
		if len(h.queue) > 0 || s.engine.recovers[h.n].running || s.running(h) != nil && !h.deleted {
			return false
		}
	}
	return true
}

func (s *sim) checkRest() {
	for _, x := range s.checks.accepted {
		s.checkServed(x.ev, x.h, x.at, "was accepted")
	}
	for _, r := range s.store.recoveries {
		if r.state != history.RecoveryCompleted || r.h.deleted {
			continue
		}
		for _, ev := range s.store.events {
			asked := s.store.pair(ev, r.h).asked // what a person has sent again meanwhile is left out, and not attempted again
			if !asked && ev.kind&r.h.events != 0 && ev.committed < r.created && ev.acceptedAt >= r.since {
				s.checkServed(ev, r.h, r.created, "was to be recovered")
			}
		}
	}
	for _, w := range s.workers {
		if w.up && reflect.ValueOf(w.windows).Elem().FieldByName("bots").Len() > 0 {
			s.fail("worker %d keeps windows at rest", w.n)
		}
	}
}

// checkServed checks what became of an event at a webhook that it was due to since a time.
func (s *sim) checkServed(ev *event, h *hook, since time.Duration, why string) {
	p := s.store.pair(ev, h)
	switch {
	case h.deleted, p.success, p.final, p.cancelled:
	case !h.subscribes(ev.kind), h.check.off[ev.kind] >= since:
	default:
		s.fail("%s %s for webhook %d, and is neither delivered nor given up", ev.id, why, h.n)
	}
}
