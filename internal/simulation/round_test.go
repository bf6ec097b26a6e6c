package simulation

import (
	"time"

	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/history"
)

// runRound is Deliverer.RunRound: window after window, while all is taken and as much more is due.
func (w *worker) runRound(h *hook, rows []history.Row, sum *delivery.RoundResult, until time.Duration, f func()) {
	w.runRoundFrom(h, rows, false, sum, until, f)
}

// runRoundFrom goes on with a round; justRead: its rows are from a moment ago.
func (w *worker) runRoundFrom(h *hook, rows []history.Row, justRead bool, sum *delivery.RoundResult, until time.Duration, f func()) {
	made, full := sum.Made, len(rows) >= sum.Window
	w.runWindow(h, rows, justRead, sum, func() {
		next, taken := w.s.nextStep(sum.State, sum.Window), sum.Failed == 0 && sum.Made-made == len(rows)
		if !full || !taken || sum.State.FailureCount > 0 || next.Kind != delivery.AttemptRows || w.s.now > until {
			f()
			return
		}
		w.runRoundFrom(h, next.Rows, true, sum, until, f)
	})
}

// nextStep is delivery.NextStep, with the rules that are taken out.
func (s *sim) nextStep(state history.QueueState, window int) delivery.QueueStep {
	if s.is(wideWhileFailing) {
		state.FailureCount = 0
	}
	if s.is(noRest) {
		state.ResumeIn = 0
	}
	return delivery.NextStep(state, window)
}

// runWindow is Deliverer.runWindow, after it has narrowed the round.
func (w *worker) runWindow(h *hook, rows []history.Row, justRead bool, sum *delivery.RoundResult, f func()) {
	s := w.s
	if h.ordered && !justRead && !s.is(roundNotReadAgain) {
		w.lookOnce(h, 1, func(q history.QueueState) {
			if len(q.Due) == 0 {
				w.lookAfter(h, 0, sum, f)
				return
			}
			w.runWindow(h, q.Due, true, sum, f)
		})
		return
	}
	if s.is(runReadByRow) {
		w.attemptRows(h, rows, nil, sum, f)
		return
	}
	w.query(func() {
		in := s.read(h)
		q, _ := s.queueState(h)
		switch {
		case s.paused(h) && !s.is(pausedIsSent):
			w.lookAfter(h, 0, sum, f)
		case h.deleted, q.FailureCount == 0 && (q.ResumeIn <= 0 || !h.ordered || rows[0].Trigger.Manual()):
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
	if sum.Window = delivery.NextWindow(sum.Window, rows, sum.Failed); h.ordered && !w.s.is(wideInOrder) {
		sum.Window = 1
	}
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

// look is Deliverer.Look: it waits out a short rest by itself.
func (w *worker) look(h *hook, most int, f func(history.QueueState)) {
	w.lookOnce(h, most, func(q history.QueueState) {
		if q.Gone || len(q.Due) == 0 || q.Due[0].Trigger.Manual() || q.ResumeIn <= 0 || q.ResumeIn > restInHand || q.Paused != nil {
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
			if _, recovers := w.s.orderedUpto(h); recovers && len(q.Due) == 0 {
				q.NextIn = max(q.NextIn, recoveryLook)
			}
			f(q, queued)
		})
	})
}
