package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// draft draws a plan.
type draft struct {
	*plan
	rnd    *rand.Rand
	events int
}

func (d *draft) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.rnd.Int64N(int64(most-least)))
}

func (d *draft) chance(p float64) bool { return d.rnd.Float64() < p }

// profile draws one kind of schedule.
type profile func(*draft)

// profiles are all kinds, each as often as it stands here.
var profiles = []profile{storm, storm, storm, people, backlog, restart, restart, forGood, inOrder, inOrder}

func draw(rnd *rand.Rand, kinds []profile) *plan {
	d := &draft{plan: &plan{
		queueRounds: 100, missedPage: 2000, quota: history.RecoveryRate, engineLag: 15 * time.Millisecond,
		schedule: webhook.Schedule{30 * time.Second, 2 * time.Minute, 10 * time.Minute},
	}, rnd: rnd}
	kinds[rnd.IntN(len(kinds))](d)
	slices.SortStableFunc(d.acts, func(a, b act) int { return int(a.at - b.at) })
	return d.plan
}

// trouble adds what may go wrong on our own side.
func (d *draft) trouble(steps int) {
	if d.chance(0.6) {
		for range 1 + d.rnd.IntN(4) {
			d.crashes = append(d.crashes, 1+d.rnd.IntN(steps))
		}
		slices.Sort(d.crashes)
	}
	if d.chance(0.2) {
		d.lostWakes = 0.3 * d.rnd.Float64()
	}
	if d.chance(0.2) {
		d.lostTasks = 0.2 * d.rnd.Float64()
	}
	if d.chance(0.3) {
		d.slowDatabase = 0.3 * d.rnd.Float64()
	}
	if d.chance(0.2) {
		d.ownFaults = 0.1 * d.rnd.Float64()
	}
	if d.chance(0.2) {
		d.engineLag = d.between(50*time.Millisecond, 300*time.Millisecond)
	}
	if d.chance(0.5) {
		d.queueRounds = 1 + d.rnd.IntN(6)
	}
	if d.chance(0.7) {
		d.missedPage = 1 + d.rnd.IntN(8)
	}
	if d.chance(0.7) {
		d.quota = 1 + d.rnd.IntN(4)
	}
}

// pages has audiences of two pages, of which the second comes late, as behind those of other events.
func (d *draft) pages() {
	if d.chance(0.3) {
		d.page, d.batchLag = 1, d.between(time.Second, 40*time.Second)
	}
}

// storm is everything at once, with few events.
func storm(d *draft) {
	d.name = "storm"
	d.workers = 1 + d.rnd.IntN(4)
	d.end = d.between(20*time.Second, 100*time.Second)
	if d.chance(0.2) {
		d.schedule = []webhook.Schedule{{}, {time.Second}, {2 * time.Second, 5 * time.Second}, {5 * time.Second, 30 * time.Second, time.Minute}}[d.rnd.IntN(4)]
	}
	for range 1 + d.rnd.IntN(4) {
		h := hookPlan{events: []uint8{typeA, typeA | typeB}[d.rnd.IntN(2)], receiver: d.anyReceiver()}
		d.hooks = append(d.hooks, h)
	}
	for range 1 + d.rnd.IntN(30) {
		d.emit(d.between(0, d.end))
	}
	if d.chance(0.4) {
		for at, n := d.between(0, d.end), 5+d.rnd.IntN(20); n > 0; n-- {
			d.emit(at + d.between(0, 200*time.Millisecond))
		}
	}
	for range d.rnd.IntN(8) {
		d.operate(d.between(0, d.end))
	}
	d.pages()
	d.trouble(2500)
}

// people is few events, and people who ask for much.
func people(d *draft) {
	d.name = "people"
	d.workers = 1 + d.rnd.IntN(3)
	d.end = d.between(20*time.Second, 60*time.Second)
	for range 1 + d.rnd.IntN(2) {
		r := d.anyReceiver()
		if d.chance(0.5) {
			r.least, r.most, r.spans = 300*time.Millisecond, 4*time.Second, nil
		}
		if d.chance(0.5) {
			r.poison = map[string]bool{eventID(0): true, eventID(1): true}
		}
		d.hooks = append(d.hooks, hookPlan{events: typeA | typeB, receiver: r})
	}
	for range 2 + d.rnd.IntN(12) {
		d.emit(d.between(0, d.end/2))
	}
	for range 3 + d.rnd.IntN(10) {
		d.operate(d.between(0, d.end))
	}
	d.pages()
	d.trouble(800)
}

// backlog is more events than a slow receiver takes directly, in several bursts.
func backlog(d *draft) {
	d.name = "backlog"
	d.workers = 1 + d.rnd.IntN(3)
	for range 1 + d.rnd.IntN(2) {
		least := d.between(50*time.Millisecond, time.Second)
		r := receiver{least: least, most: least + d.between(10*time.Millisecond, time.Second)}
		d.hooks = append(d.hooks, hookPlan{events: typeA, receiver: r})
	}
	for at, n := time.Duration(0), 1+d.rnd.IntN(4); n > 0; n-- {
		for range 10 + d.rnd.IntN(20) {
			d.emit(at + d.between(0, 4*time.Second))
		}
		at += d.between(2*time.Second, 40*time.Second)
		d.end = at
	}
	d.trouble(2500)
	if d.chance(0.7) {
		d.crashes, d.lostWakes, d.lostTasks = nil, 0, 0
	}
}

// inOrder is ordered webhooks with everything at once: troubles, crashes, recoveries and people.
func inOrder(d *draft) {
	d.name = "in order"
	d.workers = 1 + d.rnd.IntN(4)
	d.end = d.between(30*time.Second, 120*time.Second)
	d.schedule = []webhook.Schedule{{}, {time.Second}, {2 * time.Second, 5 * time.Second}, {5 * time.Second, 30 * time.Second, time.Minute}}[d.rnd.IntN(4)]
	for range 1 + d.rnd.IntN(3) {
		d.hooks = append(d.hooks, hookPlan{events: []uint8{typeA, typeA | typeB}[d.rnd.IntN(2)], ordered: d.chance(0.7), receiver: d.anyReceiver()})
	}
	for range 1 + d.rnd.IntN(4) {
		for at, n := d.between(0, d.end), 2+d.rnd.IntN(12); n > 0; n-- { // many at the same time
			d.emit(at + d.between(0, 20*time.Millisecond))
		}
	}
	for range d.rnd.IntN(20) {
		d.emit(d.between(0, d.end))
	}
	for range d.rnd.IntN(6) {
		d.operate(d.between(0, d.end))
	}
	for range d.rnd.IntN(3) {
		d.switchOrder(d.between(0, d.end))
	}
	d.pages()
	d.trouble(2500)
}

// switchOrder has a webhook become ordered, while events come, and perhaps not ordered again.
func (d *draft) switchOrder(at time.Duration) {
	n := d.rnd.IntN(len(d.hooks))
	for range 1 + d.rnd.IntN(8) {
		d.emit(at + d.between(-time.Second, time.Second))
	}
	if d.chance(0.3) {
		d.recoverMissed(n, at-d.between(time.Second, 6*time.Second))
	}
	d.add(at, fmt.Sprintf("order webhook %d", n), func(s *sim) { s.setOrdered(s.store.hooks[n], true) })
	if d.chance(0.3) {
		d.add(at+d.between(0, 40*time.Second), fmt.Sprintf("order webhook %d no more", n), func(s *sim) { s.setOrdered(s.store.hooks[n], false) })
	}
}

// recoverMissed has a webhook miss events, and recovers it.
func (d *draft) recoverMissed(n int, at time.Duration) {
	off := at - d.between(2*time.Second, 10*time.Second)
	d.add(off, fmt.Sprintf("disable webhook %d", n), func(s *sim) { s.disable(s.store.hooks[n]) })
	for range 3 + d.rnd.IntN(8) {
		d.emit(off + d.between(0, at-off))
	}
	d.add(at, fmt.Sprintf("enable webhook %d", n), func(s *sim) { s.enable(s.store.hooks[n]) })
	d.recoverAt(n, at)
}

// restart is webhooks with short troubles far apart, and events all the time.
func restart(d *draft) {
	d.name = "restart"
	d.shortTroubles = true
	d.workers = 1 + d.rnd.IntN(10)
	r := d.steadyReceiver()
	rate := []float64{0.5, 1, 3, 8, 20, 50}[d.rnd.IntN(6)]
	worst := d.chance(0.3) // much is in flight when it begins to fail, now at once and now after five seconds
	if worst {
		r.least, r.most, rate = time.Second, 4*time.Second, 20
	}
	from := d.between(2*time.Second, 10*time.Second)
	for range 1 + d.rnd.IntN(2) {
		kind := trouble(d.rnd.IntN(int(mixed) + 1))
		if worst {
			kind = []trouble{dropping, mixed}[d.rnd.IntN(2)]
		}
		r.spans = append(r.spans, span{from, from + d.between(500*time.Millisecond, 12*time.Second), kind})
		from += d.between(135*time.Second, 160*time.Second)
	}
	d.hooks = []hookPlan{{events: typeA, receiver: r}}
	if d.chance(0.3) {
		d.hooks = append(d.hooks, hookPlan{events: typeA, receiver: d.steadyReceiver()})
	}
	for _, x := range r.spans {
		length := x.to - x.from + 6*time.Second
		for range min(250, 1+int(rate*length.Seconds())) {
			d.emit(x.from - 3*time.Second + d.between(0, length))
		}
	}
	if d.chance(0.3) {
		d.recoverAt(0, r.spans[0].from+d.between(-time.Second, 30*time.Second))
	}
	d.end = from
	d.trouble(10_000)
}

// forGood is a receiver that fails for good while events come all the time.
func forGood(d *draft) {
	d.name = "for good"
	d.workers = 1 + d.rnd.IntN(10)
	d.forGood = &span{3 * time.Second, 1000 * time.Hour, trouble(d.rnd.IntN(int(mixed)))}
	d.end = 100 * time.Second
	h := hookPlan{events: typeA, receiver: receiver{least: 2 * time.Millisecond, most: 20 * time.Millisecond, spans: []span{*d.forGood}}}
	d.hooks = []hookPlan{h, {events: typeA, receiver: receiver{least: 2 * time.Millisecond, most: 20 * time.Millisecond}}}
	if d.chance(0.7) {
		d.hooks = d.hooks[:1]
	}
	rate := 8 + 12*d.rnd.Float64()
	for at := 2 * time.Second; at < d.end; at += d.between(0, time.Duration(2*float64(time.Second)/rate)) {
		d.emit(at)
	}
}

func (d *draft) steadyReceiver() receiver {
	if d.chance(0.6) {
		return receiver{least: 2 * time.Millisecond, most: 20 * time.Millisecond}
	}
	least := d.between(50*time.Millisecond, 2*time.Second)
	return receiver{least: least, most: least + d.between(10*time.Millisecond, 2*time.Second)}
}

func (d *draft) anyReceiver() receiver {
	r := d.steadyReceiver()
	for from := d.between(0, 40*time.Second); d.chance(0.5); from += d.between(time.Second, 30*time.Second) {
		to := from + d.between(100*time.Millisecond, 40*time.Second)
		r.spans = append(r.spans, span{from, min(to, d.end), trouble(d.rnd.IntN(int(mixed) + 1))})
		from = to
	}
	if d.chance(0.1) {
		r.poison = map[string]bool{}
		for range 1 + d.rnd.IntN(3) {
			r.poison[eventID(d.rnd.IntN(20))] = true
		}
	}
	return r
}

func eventID(n int) string { return fmt.Sprintf("e%03d", n) }

// emit adds an event, which may be emitted twice.
func (d *draft) emit(at time.Duration) {
	ev := &event{id: eventID(d.events), kind: typeA}
	isFew := d.name == "storm" || d.name == "people" || d.name == "in order"
	if isFew && d.chance(0.3) {
		ev.kind = typeB
	}
	d.events++
	d.add(at, "emit "+ev.id, func(s *sim) { s.startEvent(ev) })
	if isFew && d.chance(0.05) {
		d.add(at+d.between(0, time.Second), "emit "+ev.id+" again", func(s *sim) { s.startEvent(ev) })
	}
}

func (d *draft) add(at time.Duration, what string, do func(*sim)) {
	d.acts = append(d.acts, act{max(0, at), what, do})
}

func (d *draft) recoverAt(h int, at time.Duration) {
	d.add(at, fmt.Sprintf("recover webhook %d", h), func(s *sim) {
		s.store.hooks[h].check.touched = true
		s.recover(s.store.hooks[h], 0)
	})
}

// operate adds something that a person does.
func (d *draft) operate(at time.Duration) {
	n := d.rnd.IntN(len(d.hooks))
	pick := d.rnd.IntN(1000)
	add := func(what string, do func(s *sim, h *hook)) {
		d.add(at, fmt.Sprintf("%s webhook %d", what, n), func(s *sim) {
			h := s.store.hooks[n]
			h.check.touched = true
			if !h.deleted {
				do(s, h)
			}
		})
	}
	switch d.rnd.IntN(15) {
	case 0, 1:
		events := []uint8{typeA, typeB, typeA | typeB}[d.rnd.IntN(3)]
		add(fmt.Sprintf("subscribe to %b:", events), func(s *sim, h *hook) { s.patchEvents(h, events) })
	case 2:
		add("disable", func(s *sim, h *hook) { s.disable(h) })
		d.add(at+d.between(0, 20*time.Second), fmt.Sprintf("enable webhook %d", n), func(s *sim) { s.enable(s.store.hooks[n]) })
	case 3, 4:
		add("enable", func(s *sim, h *hook) { s.enable(h) })
		if d.chance(0.7) {
			d.recoverAt(n, at+d.between(0, 3*time.Second))
		}
	case 5:
		if d.chance(0.3) {
			add("delete", func(s *sim, h *hook) { s.remove(h) })
		}
	case 6:
		d.recoverAt(n, at)
		if d.chance(0.3) {
			add("cancel the recovery of", func(s *sim, h *hook) { s.cancelRecovery(h) })
			d.acts[len(d.acts)-1].at += d.between(0, 5*time.Second)
		}
	case 7:
		add("retry now all of", func(s *sim, h *hook) { s.retryNow(h, nil) })
	case 8:
		add("retry now one of", func(s *sim, h *hook) {
			if len(h.queue) > 0 {
				s.retryNow(h, h.queue[pick%len(h.queue)].ev)
			}
		})
	case 9:
		ev := &event{id: fmt.Sprintf("test%d", len(d.acts)), kind: typeTest}
		add("test", func(s *sim, h *hook) {
			ev.only = h
			s.startManual(attempt{ev: ev, h: h, number: 1, trigger: webhook.TriggerTest})
		})
	case 10, 11:
		add("redeliver to", func(s *sim, h *hook) { s.redeliver(h, pick) })
	case 12, 13:
		of := []string{anyPause, "bot0", "bot1", fmt.Sprintf("host%d", n)}[pick%4]
		d.add(at, "pause "+of, func(s *sim) { s.pause(of) })
		d.add(at+d.between(time.Second, 40*time.Second), "end the pause of "+of, func(s *sim) { s.resume(of) })
	case 14:
		bot := fmt.Sprintf("bot%d", n%2)
		d.add(at, "suspend "+bot, func(s *sim) { s.suspend(bot) })
		d.add(at+d.between(0, 20*time.Second), "end the suspension of "+bot, func(s *sim) { s.unsuspend(bot) })
		d.recoverAt(n, at+d.between(0, 25*time.Second))
	}
}
