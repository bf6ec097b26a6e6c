package delivery

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/admission"
)

// admissionPatience is how long a delivery waits for a place before it goes to its webhook's queue: a burst to a receiver
// that answers in milliseconds has passed by then, and one that hangs holds nothing up for longer.
const admissionPatience = 500 * time.Millisecond

// gate is the wait around the windows of webhooks in direct mode.
type gate struct {
	mu      sync.Mutex
	windows *admission.Windows // guarded by mu
}

func newGate() *gate { return &gate{windows: admission.New()} }

// permit is a place, to be released once.
type permit struct {
	gate   *gate
	ticket *admission.Ticket
}

// enter waits for a place in turn. false: none came in time, or the webhook turned queued.
func (g *gate) enter(ctx context.Context, webhookID uuid.UUID, botID string) (*permit, bool) {
	t := g.offer(webhookID, botID)
	if t.Woken != nil {
		timer := time.NewTimer(admissionPatience)
		defer timer.Stop()
		select {
		case <-t.Woken:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if !g.settle(t) {
		return nil, false
	}
	return &permit{g, t}, true
}

func (g *gate) offer(webhookID uuid.UUID, botID string) *admission.Ticket {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.windows.Offer(webhookID, botID)
	if !t.Granted() {
		t.Woken = make(chan struct{})
	}
	return t
}

// settle says whether the ticket was granted, and takes it back otherwise.
func (g *gate) settle(t *admission.Ticket) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !t.Granted() {
		g.windows.Withdraw(t)
	}
	return t.Granted()
}

func (p *permit) release(o admission.Outcome) {
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	wake(p.gate.windows.Ended(p.ticket, o))
}

// leave sends all that wait for a webhook away, as it has turned queued.
func (g *gate) leave(webhookID uuid.UUID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	wake(g.windows.Leave(webhookID))
}

func (g *gate) load() (inFlight, waiting int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.windows.Load()
}

func wake(tickets []*admission.Ticket) {
	for _, t := range tickets {
		close(t.Woken)
	}
}
