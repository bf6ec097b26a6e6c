package simulation

import (
	"time"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// healthAfter is history.Health.After, with the rules that are taken out.
func (s *sim) healthAfter(h history.Health, a history.Attempt) history.Health {
	if s.is(noGeneration) {
		a.Generation = h.Generation
	}
	if s.is(noEarlyFailures) {
		a.FailureRun = h.FailureRun
	}
	if s.is(allEarly) {
		a.FailureRun = 0
	}
	next := h.After(a, false)
	if s.is(failureStaysDirect) {
		next.Queued = h.Queued
	}
	if a.Success && s.is(successKeepsCount) {
		next.FailureCount = h.FailureCount
	}
	return next
}

func (s *sim) restOf(h history.Health) time.Duration {
	switch {
	case s.is(noRest):
		return 0
	case s.is(restByCount):
		switch {
		case h.FailureCount == 0, !h.Active:
			return 0
		case h.FailureCount < 5:
			return 500 * time.Millisecond
		case h.FailureCount < webhook.MaxFailures:
			return 3 * time.Second
		}
	}
	return h.Rest()
}

// recorded is what recording or planning came to, see history.Recorded.
type recorded struct {
	gone, active, planned bool
}

// recording is an attempt to be recorded, or planned.
type recording struct {
	ev      *event
	h       *hook
	attempt history.Attempt
	plan    *planned
	post    *post
	final   bool // a failure has no next by the schedule
	entry   *entry
	after   recorded
	done    func(recorded)
}

// next is the plan that a recording makes, or nil.
func (rec *recording) next() *planned {
	a := rec.attempt
	if rec.plan != nil || a.Success || a.RetryIn <= 0 {
		return rec.plan
	}
	return &planned{ev: rec.ev, h: rec.h, number: a.Number + 1, step: a.Step + 1, trigger: webhook.TriggerRetry, delay: a.RetryIn}
}

// fastSuccess is RecordSuccesses of one attempt; false: it changes something about its webhook.
func (s *sim) fastSuccess(rec *recording) bool {
	h := rec.h
	if h.deleted || !h.health.Active || h.health.FailureCount > 0 || s.store.deliveries[deliveryKey{rec.ev, h, rec.attempt.Number}] != nil {
		return false
	}
	s.addDelivery(rec)
	return true
}

// record is Recorder.record, a transaction. It returns the rows that may have to be woken.
func (s *sim) record(batch []*recording) (unwoken []*row) {
	before, last, disabled := map[*hook]history.Health{}, map[*hook]bool{}, []*hook{}
	retryIn := map[*hook]time.Duration{}
	plans, order, own := map[pair]*recording{}, []pair{}, map[*hook]bool{}
	for _, rec := range batch {
		h := rec.h
		if h.deleted {
			rec.after = recorded{gone: true}
			continue
		}
		if _, known := before[h]; !known {
			before[h] = h.health
		}
		if rec.plan == nil {
			key := deliveryKey{rec.ev, h, rec.attempt.Number}
			if s.store.deliveries[key] != nil && !s.is(recordedTwice) {
				rec.after = recorded{active: h.health.Active}
				s.settlePost(rec)
				continue
			}
			was := h.health
			h.health = s.healthAfter(was, rec.attempt)
			last[h] = last[h] || h.health != was
			s.addDelivery(rec)
			if was.Active && !h.health.Active {
				disabled = append(disabled, h)
			}
		}
		rec.after.active = h.health.Active
		next := rec.next()
		if next == nil || h.suspended || !h.health.Active && !next.trigger.Manual() {
			continue
		}
		rec.after.planned = true
		if h.ordered && rec.plan == nil && !s.is(headIsDelayed) {
			retryIn[h] = max(retryIn[h], next.delay)
		}
		key := pair{rec.ev, h}
		if plans[key] == nil {
			plans[key], order = rec, append(order, key)
		}
		if next.delay <= 0 && h.health.Active && !s.is(dueRowStaysDirect) {
			h.health.Queued = true
		}
	}
	for h, was := range before {
		switch until := s.now + max(retryIn[h], s.restOf(h.health)); {
		case h.ordered && (h.health != was || retryIn[h] > 0):
			h.resumeAt = max(h.resumeAt, until)
		case h.health != was:
			h.resumeAt = until
		}
	}
	for _, rec := range batch {
		if rec.plan == nil && rec.entry != nil {
			if !s.is(attemptedRowStays) {
				s.removeAttempted(rec.ev, rec.h, rec.attempt.Number)
			}
			s.countRecovered(rec)
		}
	}
	var rows []*row
	for _, key := range order {
		rec := plans[key]
		next := rec.next()
		if !key.h.health.Active && !next.trigger.Manual() {
			continue // disabled by a later attempt of the batch
		}
		own[key.h] = own[key.h] || rec.attempt.Queued
		if s.is(planApart) && rec.plan == nil {
			continue // by a transaction of its own, see recorder.rest
		}
		rows = append(rows, s.enqueue(*next))
	}
	for _, r := range rows {
		if !own[r.h] {
			unwoken = append(unwoken, r)
		}
	}
	for _, h := range disabled {
		h.disabled = s.now
		s.logf("webhook %d is disabled after %d failures", h.n, h.health.FailureCount)
		s.checkDisabling(h)
		s.stopWebhook(h)
	}
	for _, rec := range batch {
		if rec.entry != nil {
			s.checkCount(rec.h)
		}
	}
	return unwoken
}

func (s *sim) addDelivery(rec *recording) {
	h, a := rec.h, rec.attempt
	e := &entry{ev: rec.ev, number: a.Number, success: a.Success, enabled: rec.post.enabled, readAt: rec.post.readAt, recorded: s.done}
	e.counts = e.enabled == h.check.enabled
	rec.entry = e
	s.checkRecorded(rec)
	s.store.deliveries[deliveryKey{rec.ev, h, a.Number}] = e
	h.check.log = append(h.check.log, e)
	p := s.store.pair(rec.ev, h)
	p.last = max(p.last, a.Number)
	p.success = p.success || a.Success
	if a.Step > 0 {
		p.final = rec.final
	}
	s.settlePost(rec)
	s.logf("recorded: %s attempt %d at webhook %d: %s", rec.ev.id, a.Number, h.n, map[bool]string{true: "taken", false: "failed"}[a.Success])
}
