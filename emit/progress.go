package emit

import (
	"sync"
	"time"

	"github.com/mathub/webhooks/webhook"
)

const (
	// mostOpen is how many workflows' events may be on their way to the worker.
	mostOpen = 8
	// beginTimeout is after how long those of one no longer count: the worker may be another.
	beginTimeout = 500 * time.Millisecond
	// lookAgain is how often a Batcher that waits for the worker looks at it.
	lookAgain = 10 * time.Millisecond
)

// Progress tells a Batcher how far a worker in the same process is with the started events, so that it accepts no more than
// can be delivered in time. Make it with NewProgress. Safe for concurrent use.
type Progress struct {
	// Behind says that the worker has more to deliver than it can. Nil: it never has.
	Behind func() bool

	mu     sync.Mutex
	groups map[string]*startedGroup // by the events whose deliveries have not begun
	open   []*startedGroup          // oldest first; some may be over
	over   chan struct{}            // holds one when a group is over since it was last read
}

// startedGroup are events that were started together.
type startedGroup struct {
	events []webhook.Event
	left   int
	at     time.Time
}

// NewProgress returns a Progress of a worker that has not begun anything.
func NewProgress() *Progress {
	return &Progress{groups: map[string]*startedGroup{}, over: make(chan struct{}, 1)}
}

// Begun says that the worker has come to an event's deliveries: each has begun, or waits for its receiver.
func (p *Progress) Begun(eventID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(eventID, p.groups[eventID])
}

func (p *Progress) forget(eventID string, g *startedGroup) {
	if g == nil || p.groups[eventID] != g {
		return
	}
	delete(p.groups, eventID)
	if g.left--; g.left == 0 {
		select {
		case p.over <- struct{}{}:
		default:
		}
	}
}

// started notes events that are started together.
func (p *Progress) started(events []webhook.Event) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	g := &startedGroup{events: events, left: len(events), at: time.Now()}
	for _, e := range events {
		p.forget(e.ID, p.groups[e.ID]) // of another start
		p.groups[e.ID] = g
	}
	p.open = append(p.open, g)
}

// notStarted takes back what started noted.
func (p *Progress) notStarted(events []webhook.Event) {
	if p == nil {
		return
	}
	for _, e := range events {
		p.Begun(e.ID)
	}
}

// await waits until the worker comes on with what was started, or, at most, for lookAgain. false: there is no need to.
func (p *Progress) await() bool {
	if p == nil || !p.full() && (p.Behind == nil || !p.Behind()) {
		return false
	}
	timer := time.NewTimer(lookAgain)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.over:
	}
	return true
}

// full says that as many workflows' events as may be are on their way.
func (p *Progress) full() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	open := p.open[:0]
	for _, g := range p.open {
		if time.Since(g.at) > beginTimeout {
			for _, e := range g.events {
				p.forget(e.ID, g)
			}
		}
		if g.left > 0 {
			open = append(open, g)
		}
	}
	clear(p.open[len(open):])
	p.open = open
	return len(open) >= mostOpen
}
