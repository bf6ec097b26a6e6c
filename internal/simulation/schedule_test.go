package simulation

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// plan is a schedule: all that a run is put through, drawn from its seed.
type plan struct {
	name          string
	workers       int
	schedule      webhook.Schedule
	end           time.Duration // from then on there is no more trouble
	hooks         []hookPlan
	acts          []act
	crashes       []int // in steps of workers
	lostWakes     float64
	lostTasks     float64
	slowDatabase  float64
	ownFaults     float64
	engineLag     time.Duration // until a worker gets a task, at most
	page          int           // from which webhook on audiences have a second page; 0: they have none
	batchLag      time.Duration // until a worker gets that, at most
	queueRounds   int
	missedPage    int
	quota         int   // of events that an ordered webhook's recovery plans at once
	shortTroubles bool  // none is longer than 12 s, nor sooner than two minutes after the last
	forGood       *span // of webhook 0
	postsBefore   int   // it began
}

type hookPlan struct {
	events   uint8
	ordered  bool
	receiver receiver
}

// act is something that comes from outside at a time.
type act struct {
	at   time.Duration
	what string
	do   func(s *sim)
}

func (p *plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d workers, schedule %v, trouble until %v, crashes at steps %v, wakes lost %.0f %%, tasks lost %.0f %%, slow statements %.0f %%, own faults %.0f %%, tasks up to %v late, %d rounds a run, %d events a page\n",
		p.name, p.workers, p.schedule, p.end, p.crashes, 100*p.lostWakes, 100*p.lostTasks, 100*p.slowDatabase, 100*p.ownFaults, p.engineLag, p.queueRounds, p.missedPage)
	for i, h := range p.hooks {
		fmt.Fprintf(&b, "webhook %d: types %b, ordered %v, answers in %v to %v, %v, never takes %d events\n", i, h.events, h.ordered, h.receiver.least, h.receiver.most, h.receiver.spans, len(h.receiver.poison))
	}
	for _, a := range p.acts {
		fmt.Fprintf(&b, "%10.4fs  %s\n", a.at.Seconds(), a.what)
	}
	return b.String()
}

// What people do through the API.

func (s *sim) patchEvents(h *hook, events uint8) {
	for _, kind := range []uint8{typeA, typeB} {
		if h.events&kind == 0 || events&kind == 0 {
			h.check.off[kind] = s.now
		}
	}
	h.events = events
	s.removePlanned(h, func(r *row) bool { return r.ev.kind != typeTest && r.ev.kind&events == 0 })
	if !h.health.Active {
		s.stopWebhook(h)
	}
	if h.ordered {
		h.check.attended = s.now
		s.signal(h, true)
	}
}

func (s *sim) disable(h *hook) {
	if h.deleted {
		return
	}
	if h.health.Active {
		h.disabled, h.check.offStep = s.now, s.done
	}
	h.health.Active = false
	h.forgetOrder()
	s.stopWebhook(h)
}

func (s *sim) enable(h *hook) {
	if h.deleted {
		return
	}
	if !h.health.Active {
		h.check.off[typeA], h.check.off[typeB] = s.now, s.now
		h.enabledAt = s.now
	}
	h.check.touched = true
	h.forgetOrder()
	h.health.Active = true
	h.health.FailureCount, h.health.EarlyFailures = 0, 0
	h.health.Generation++
	if h.ordered && h.resumeAt > s.now {
		h.check.attended = s.now
		s.signal(h, true)
	}
	h.resumeAt = 0
	h.check.enabled++
	h.check.log, h.check.runBegan = nil, 0
}

func (s *sim) remove(h *hook) {
	h.deleted = true
	s.removeRows(h, func(*row) bool { return true })
}

// redeliver asks for an event once more that was attempted.
func (s *sim) redeliver(h *hook, pick int) {
	var attempted []*event
	for _, ev := range s.store.events {
		if s.store.pair(ev, h).last > 0 {
			attempted = append(attempted, ev)
		}
	}
	if len(attempted) == 0 {
		return
	}
	ev := attempted[pick%len(attempted)]
	p := s.store.pair(ev, h)
	p.asked = true
	number := p.last + 1
	if r := s.store.rows[pair{ev, h}]; r != nil {
		number = r.attempt
	}
	s.logf("a person asks for %s at webhook %d again", ev.id, h.n)
	s.startManual(attempt{ev: ev, h: h, number: number, trigger: webhook.TriggerRedeliver})
}

// newSim sets a run of a plan up.
func newSim(p *plan, rnd *rand.Rand, broken rule) *sim {
	s := &sim{plan: *p, rnd: rnd, broken: broken, store: newStore(), crashes: p.crashes, emitting: len(p.acts)}
	s.checks.lastFault = longAgo
	s.engine.manual, s.engine.batches = map[deliveryKey]bool{}, map[*event]bool{}
	for i, x := range p.hooks {
		h := &hook{n: i, id: id(i + 1), bot: fmt.Sprintf("bot%d", i%2), events: x.events, ordered: x.ordered, health: history.Health{Active: true, Queued: x.ordered}, receiver: x.receiver}
		h.check.off, h.check.leftAt = map[uint8]time.Duration{typeA: longAgo, typeB: longAgo}, map[*worker]time.Duration{}
		for _, kind := range []uint8{typeA, typeB} {
			if h.events&kind == 0 {
				h.check.off[kind] = 0
			}
		}
		s.store.hooks = append(s.store.hooks, h)
		s.engine.queues = append(s.engine.queues, &queueRun{s: s, h: h})
		s.engine.recovers = append(s.engine.recovers, &recoverRun{})
		s.watchTroubles(h)
	}
	for i := range p.workers {
		w := &worker{s: s, n: i}
		s.workers = append(s.workers, w)
		w.start()
	}
	for _, a := range p.acts {
		s.outside(a.at, func() {
			s.logf("%s", a.what)
			s.emitting--
			a.do(s)
		})
	}
	s.outside(time.Second, s.watch)
	return s
}

// watchTroubles looks, as each trouble begins, whether the webhook fails already: ten failures in a row are ten.
func (s *sim) watchTroubles(h *hook) {
	if !s.plan.shortTroubles {
		return
	}
	for _, x := range h.receiver.spans {
		s.outside(x.from, func() {
			if h.health.FailureCount > 0 {
				h.check.exempt = true
				s.checks.exempt++
			}
		})
	}
}
