package simulation

import (
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// As internal/history/recovery.go has them.
const (
	recoveryAhead = 60 * time.Second
	directTime    = webhook.AttemptTimeout + 2*time.Second
	directLatest  = 10 * time.Minute
)

// recovery is a row of recoveries.
type recovery struct {
	id               uuid.UUID
	h                *hook
	since            time.Duration
	beginAt, upto    time.Duration
	afterTime        time.Duration
	afterID          string
	lookedThrough    bool
	state            string
	found            int
	created, updated time.Duration
}

// recoverRun is the Recover workflow of one webhook.
type recoverRun struct {
	running bool
	n       int
}

func (s *sim) running(h *hook) *recovery {
	for _, r := range s.store.recoveries {
		if r.h == h && r.state == history.RecoveryRunning {
			return r
		}
	}
	return nil
}

func (s *sim) latest(h *hook) *recovery {
	for i := len(s.store.recoveries) - 1; i >= 0; i-- {
		if r := s.store.recoveries[i]; r.h == h {
			return r
		}
	}
	return nil
}

// recover is StartRecovery, and the start of its workflow unless that is lost.
func (s *sim) recover(h *hook, since time.Duration) {
	if h.deleted || h.suspended || !h.health.Active || s.running(h) != nil {
		return
	}
	r := &recovery{id: id(len(s.store.recoveries) + 1), h: h, since: since, upto: s.now, beginAt: since, state: history.RecoveryRunning, created: s.now, updated: s.now}
	if h.disabled >= since && h.disabled > 0 && !h.ordered {
		r.beginAt = h.disabled
	}
	r.afterTime = r.beginAt
	s.store.recoveries = append(s.store.recoveries, r)
	s.noteMissed(r)
	s.logf("webhook %d is recovered from %.3fs on", h.n, since.Seconds())
	if s.chance(s.plan.lostWakes) {
		s.checks.lastFault = s.now
		return
	}
	s.startRecover(h)
}

// startRecover starts the workflow, in the place of one that runs.
func (s *sim) startRecover(h *hook) {
	run := s.engine.recovers[h.n]
	run.running = true
	run.n++
	s.recoverStep(h, run.n)
}

func (s *sim) recoverStep(h *hook, n int) {
	run := s.engine.recovers[h.n]
	s.dispatch(s.workflowTask(func(w *worker, t *task) {
		if run.n != n {
			t.end()
			return
		}
		w.recoverPages(h, s.now+2*time.Second, func(ended bool, planned int, wait time.Duration) {
			if planned > 0 {
				w.askToWake(h)
			}
			w.after(s.between(time.Millisecond, 5*time.Millisecond), func() {
				t.end()
				switch {
				case run.n != n:
				case ended:
					run.running = false
				default:
					s.outside(max(wait, time.Second)+s.between(0, time.Second), func() {
						if run.n == n {
							s.recoverStep(h, n)
						}
					})
				}
			})
		})
	}))
}

// recoverPages is history.Queue.RecoverPage.
func (w *worker) recoverPages(h *hook, until time.Duration, f func(ended bool, planned int, wait time.Duration)) {
	s := w.s
	w.query(func() { // LatestRecovery
		r := s.latest(h)
		if h.deleted || r == nil || r.state != history.RecoveryRunning {
			f(true, 0, 0)
			return
		}
		remaining, inTurn := 0, 0 // inTurn is what planned_enough counts
		for _, q := range h.queue {
			if q.recovery == r {
				remaining++
				if q.due <= r.afterTime || s.is(recoveryCountsAll) {
					inTurn++
				}
			}
		}
		ahead := r.created + time.Duration(r.found)*time.Second/history.RecoveryRate - s.now
		switch {
		case r.lookedThrough && remaining == 0:
			w.query(func() {
				if r.state == history.RecoveryRunning {
					r.state = history.RecoveryCompleted
				}
				f(true, 0, 0)
			})
		case r.lookedThrough, h.ordered && inTurn >= s.plan.quota:
			f(false, 0, time.Second)
		case !h.ordered && ahead > recoveryAhead:
			f(false, 0, ahead-recoveryAhead/2)
		default:
			w.planMissed(*r, r, max(0, ahead), func(planned int) {
				if planned > 0 || s.now > until {
					f(false, planned, 0)
					return
				}
				w.recoverPages(h, until, f)
			})
		}
	})
}

// planMissed is history.Queue.planMissed; was is the recovery as it was read.
func (w *worker) planMissed(was recovery, r *recovery, ahead time.Duration, f func(planned int)) {
	s := w.s
	w.query(func() { // ListMissed
		var rows []planned
		place := was
		place.afterTime, place.afterID, place.beginAt, place.upto, place.lookedThrough = was.since, "", was.since, was.beginAt, was.beginAt <= was.since
		n := 0
		for _, ev := range s.store.events {
			isAfter := ev.acceptedAt > was.afterTime || ev.acceptedAt == was.afterTime && ev.id > was.afterID
			if !isAfter || ev.acceptedAt > was.upto {
				continue
			}
			if n++; n == s.plan.missedPage {
				place = was
				place.afterTime, place.afterID = ev.acceptedAt, ev.id
			}
			p := s.store.pair(ev, was.h)
			if ev.kind&was.h.events == 0 || p.success && !s.is(recoveryIgnoresSuccess) || s.store.rows[pair{ev, was.h}] != nil {
				if n == s.plan.missedPage {
					break
				}
				continue
			}
			delay := ahead + time.Duration(len(rows)/history.RecoveryRate)*time.Second
			if !s.is(recoveryTakesInFlight) && was.h.wasActive(ev) && p.last == 0 && s.now-ev.acceptedAt < directLatest {
				delay = max(delay, directTime)
			}
			rows = append(rows, planned{ev: ev, h: was.h, number: p.last + 1, step: 1, trigger: webhook.TriggerRecover, delay: delay, recovery: r})
			if was.h.ordered && len(rows) == s.plan.quota {
				place = was
				place.afterTime, place.afterID = ev.acceptedAt, ev.id
				break
			}
			if n == s.plan.missedPage {
				break
			}
		}
		w.query(func() { // the transaction
			if r.state != history.RecoveryRunning || r.afterTime != was.afterTime || r.afterID != was.afterID || r.h.deleted {
				f(0)
				return
			}
			for _, p := range rows {
				s.enqueue(p)
			}
			if len(rows) > 0 {
				s.logf("%d events are planned that webhook %d missed", len(rows), r.h.n)
			}
			r.afterTime, r.afterID, r.beginAt, r.upto, r.lookedThrough = place.afterTime, place.afterID, place.beginAt, place.upto, place.lookedThrough
			r.found += len(rows)
			r.updated = s.now
			f(len(rows))
		})
	})
}

// wasActive says whether a webhook was when an event was accepted.
func (h *hook) wasActive(ev *event) bool {
	return ev.acceptedAt >= h.enabledAt || h.disabled > 0 && ev.acceptedAt < h.disabled
}

// countRecovered is CountRecovered of one attempt.
func (s *sim) countRecovered(rec *recording) {
	for _, r := range s.store.recoveries {
		if r.id == rec.attempt.RecoveryID {
			r.updated = s.now
		}
	}
}

// cancelRecovery is history.Queue.CancelRecovery.
func (s *sim) cancelRecovery(h *hook) {
	if r := s.running(h); r != nil {
		s.removePlanned(h, func(q *row) bool {
			if q.recovery == r {
				s.store.pair(q.ev, h).cancelled = true
			}
			return q.recovery == r
		})
		r.state = history.RecoveryCancelled
		s.logf("the recovery of webhook %d is cancelled", h.n)
	}
}
