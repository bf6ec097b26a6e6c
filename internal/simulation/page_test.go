package simulation

import (
	"time"

	"github.com/mathub/webhooks/webhook"
)

// inSecondPage says that a webhook is in the second page of each audience.
func (s *sim) inSecondPage(h *hook) bool { return s.plan.page > 0 && h.n >= s.plan.page }

// startBatch starts DeliverBatch for the second page of an event's audience, unless it runs.
func (s *sim) startBatch(ev *event) {
	if s.plan.page == 0 || s.engine.batches[ev] {
		return
	}
	s.engine.batches[ev] = true
	s.engine.open++
	s.outside(s.between(0, s.plan.batchLag), func() {
		s.dispatch(s.workflowTask(func(w *worker, t *task) {
			w.addressPart(ev, func(targets []*hook) {
				s.deliver(ev, w, targets, func() {
					w.after(s.between(time.Millisecond, 5*time.Millisecond), func() {
						t.end()
						s.engine.open--
						delete(s.engine.batches, ev)
					})
				})
			})
		}))
	})
}

// addressPart is Deliverer.AddressPart.
func (w *worker) addressPart(ev *event, f func(targets []*hook)) {
	s := w.s
	w.query(func() {
		var rows []*row
		var targets []*hook
		inputs := map[*hook]input{}
		for _, h := range s.store.hooks {
			if !s.inSecondPage(h) || !h.subscribes(ev.kind) {
				continue
			}
			inputs[h] = s.read(h)
			switch {
			case !inputs[h].queued:
				targets = append(targets, h)
			case s.store.rows[pair{ev, h}] == nil && (!h.ordered || h.from > ev.acceptedAt):
				s.store.seq++
				rows = append(rows, s.insert(&row{
					ev: ev, h: h, seq: s.store.seq, attempt: 1, step: 1, trigger: webhook.TriggerEvent, due: ev.acceptedAt, turns: s.paused(h) && !h.health.Queued,
				}))
			}
		}
		placed := len(targets)
		w.afterAddress(ev, true, rows, targets, func(_ bool, left []*hook) {
			if len(left) == placed { // none was served before
				for _, h := range left {
					w.prefetch[deliveryKey{ev, h, 1}] = inputs[h]
				}
			}
			f(left)
		})
	})
}
