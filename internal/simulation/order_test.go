package simulation

import (
	"slices"
	"time"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// orderSettles is history.OrderSettles, and recoveryLook as history has it.
const (
	orderSettles = history.OrderSettles
	recoveryLook = 2 * time.Second
)

// orderCheck is what the checks know of an ordered webhook.
type orderCheck struct {
	accepted []*event // since it is ordered and active, in the order of the commits
	posted   int      // how many of those were posted: the place of the last, from 1
	missed   []*event // what a recovery that was begun is to find, oldest first
	since    time.Duration
}

// forget begins anew: what was accepted before has no order any more.
func (h *hook) forgetOrder() { h.check.order = orderCheck{} }

// lockOrder is lock_order: f is done once no other transaction holds the lock of ordered webhooks.
func (w *worker) lockOrder(needed bool, f func(release func())) {
	s := w.s
	switch held := s.store.orderLock; {
	case !needed || s.is(orderNotLocked):
		f(func() {})
	case held != nil && held.epoch == held.w.epoch:
		w.after(time.Millisecond, func() { w.lockOrder(needed, f) })
	default:
		mine := &insertion{w, w.epoch}
		s.store.orderLock = mine
		f(func() {
			if s.store.orderLock == mine {
				s.store.orderLock = nil
			}
		})
	}
}

// placeOf is when a new event's row is due at an ordered webhook: after those that are there.
func (s *sim) placeOf(ev *event, h *hook) time.Duration {
	due := ev.acceptedAt
	for _, r := range h.queue {
		if !r.trigger.Manual() {
			due = max(due, r.due+time.Microsecond)
		}
	}
	return due
}

// head is HeadOf.
func (s *sim) head(h *hook) *row { return s.first(h, 0) }

// retried is RetriedOf.
func (s *sim) retried(h *hook) *row { return s.first(h, 2) }

// first is the first row of a webhook from a step of the schedule on.
func (s *sim) first(h *hook, step int) *row {
	var head *row
	for _, r := range h.queue {
		if !r.trigger.Manual() && r.step >= step && (head == nil || r.due < head.due || r.due == head.due && r.seq < head.seq) {
			head = r
		}
	}
	return head
}

// removePlanned is history.RemovePlanned: an ordered webhook does not wait for a retry that is removed.
func (s *sim) removePlanned(h *hook, f func(*row) bool) {
	before := s.retried(h)
	s.removeRows(h, f)
	if rest := s.now + longestRest; h.ordered && s.retried(h) != before && h.resumeAt > rest {
		h.resumeAt = rest
	}
}

// orderedUpto is up to where an ordered webhook's recovery has looked.
func (s *sim) orderedUpto(h *hook) (upto time.Duration, recovers bool) {
	if r := s.running(h); r != nil && h.ordered && !r.lookedThrough && !s.is(recoveryNotAwaited) {
		return r.afterTime, true
	}
	return 0, false
}

// setOrdered is PATCH with ordered: UpdateWebhook, and history.SetOrdered.
func (s *sim) setOrdered(h *hook, ordered bool) {
	if h.deleted || h.ordered == ordered {
		return
	}
	h.ordered = ordered
	h.forgetOrder()
	if !ordered {
		if retried := s.retried(h); retried != nil && h.resumeAt > s.now {
			retried.due = h.resumeAt
		}
		h.resumeAt, h.from, h.check.attended = 0, 0, s.now
		s.signal(h, true)
		return
	}
	h.health.Queued = true
	if h.from = s.now + orderSettles; s.is(orderNotSettled) {
		h.from = 0
	}
	for _, r := range h.queue {
		if !r.trigger.Manual() {
			r.due, r.changed = r.ev.acceptedAt, s.now
		}
	}
	s.signal(h, true)
}

// noteMissed keeps what a recovery that begins now is to find at an ordered webhook.
func (s *sim) noteMissed(r *recovery) {
	if !r.h.ordered {
		return
	}
	c := &r.h.check.order
	c.missed, c.since = nil, s.now
	for _, ev := range s.store.events {
		p := s.store.pair(ev, r.h)
		isInFlight := slices.ContainsFunc(p.posts, func(o *post) bool { return !o.recorded && !o.lost }) // it is the attempt that the recovery plans
		if ev.acceptedAt >= r.since && ev.acceptedAt <= r.upto && ev.kind&r.h.events != 0 && !p.success && !isInFlight && s.store.rows[pair{ev, r.h}] == nil {
			c.missed = append(c.missed, ev)
		}
	}
}

// checkOrder checks a POST to an ordered webhook that nobody has asked for: nothing else is in flight, all that was accepted before
// is done with, and nothing that was accepted later was sent.
func (s *sim) checkOrder(a attempt) {
	h := a.h
	if !h.ordered || a.trigger.Manual() {
		return
	}
	for _, other := range h.check.flying {
		if s.now >= h.from && !other.manual && (a.row != nil || other.ordered) { // before, what was under way may overlap
			s.fail("%s is sent to webhook %d, which is ordered, while %s is in flight", a.ev.id, h.n, other.ev.id)
		}
	}
	c := &h.check.order
	s.checkRecovered(a, c)
	place := slices.Index(c.accepted, a.ev)
	if place < 0 {
		return // accepted before it was ordered, or active
	}
	for _, before := range c.accepted[:place] {
		p := s.store.pair(before, h)
		switch {
		case p.success, p.final, p.cancelled, h.events&before.kind == 0, h.check.off[before.kind] >= before.committed:
		default:
			s.fail("%s is sent to webhook %d before %s, which was accepted before it, is taken or given up", a.ev.id, h.n, before.id)
		}
	}
	own := s.store.pair(a.ev, h)
	if own.recovered = own.recovered || a.trigger == webhook.TriggerRecover; place+1 < c.posted && !own.recovered {
		s.fail("%s is sent to webhook %d after what was accepted later", a.ev.id, h.n)
	}
	c.posted = max(c.posted, place+1)
}

// inTime is how long an attempt may have been chosen before its POST begins.
const inTime = time.Second

// checkRecovered checks that what a recovery finds goes before what was accepted later.
func (s *sim) checkRecovered(a attempt, c *orderCheck) {
	h := a.h
	if s.running(h) == nil || s.now < c.since+inTime {
		return
	}
	for _, ev := range c.missed {
		p := s.store.pair(ev, h)
		isDone := p.success || p.asked || p.cancelled || slices.ContainsFunc(p.posts, func(o *post) bool { return o.begun > c.since })
		if ev.acceptedAt < a.ev.acceptedAt && !isDone && h.events&ev.kind != 0 && h.check.off[ev.kind] < c.since {
			s.fail("%s is sent to webhook %d before %s, which is older and being recovered", a.ev.id, h.n, ev.id)
		}
	}
}
