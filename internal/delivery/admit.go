package delivery

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/admission"
)

const (
	// admissionPatience is how long a delivery waits while no place at all comes free, before it goes to its webhook's queue:
	// what hangs holds nothing up for longer.
	admissionPatience = 500 * time.Millisecond
	// longestAdmission is how long it waits in all for a receiver that answers slowly. Where as many places come free in
	// half a second as shortWait, it is our own processors that it waits for, and it goes on waiting.
	longestAdmission = 3 * time.Second
	shortWait        = admission.LargestWindow / 2
)

// gate is the wait around the windows of webhooks in direct mode.
type gate struct {
	mu      sync.Mutex
	windows *admission.Windows // guarded by mu
}

func newGate() *gate { return &gate{windows: admission.New()} }

// permit is a place. A nil permit is for an attempt that needs none.
type permit struct {
	gate     *gate
	ticket   *admission.Ticket
	prompt   bool // whatever it waited for was not its receiver
	released bool // guarded by gate.mu
}

// enter waits for a place in turn. false: none came in time, or the webhook turned queued.
func (g *gate) enter(ctx context.Context, webhookID uuid.UUID, botID string) (*permit, bool) {
	t, progress := g.offer(webhookID, botID)
	first, since := progress, time.Now()
	for giveUp := time.Now().Add(longestAdmission); t.Woken != nil; {
		before := progress
		waiting := g.await(ctx, t)
		progress = g.progress(t)
		if !waiting || progress == before || time.Now().After(giveUp) && progress-before < shortWait {
			break
		}
	}
	if !g.settle(t) {
		return nil, false
	}
	// As many places came free as come free for our own processors only; or it has not waited.
	prompt := time.Duration(progress-first)*admissionPatience >= shortWait*time.Since(since)
	return &permit{gate: g, ticket: t, prompt: t.Woken == nil || prompt}, true
}

// await waits for the ticket to be woken, for admissionPatience at most. false: there is no more to wait for.
func (g *gate) await(ctx context.Context, t *admission.Ticket) bool {
	timer := time.NewTimer(admissionPatience)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.Woken:
	case <-ctx.Done():
	}
	return false
}

func (g *gate) offer(webhookID uuid.UUID, botID string) (t *admission.Ticket, progress int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t = g.windows.Offer(webhookID, botID)
	if !t.Granted() {
		t.Woken = make(chan struct{})
	}
	return t, t.Progress()
}

func (g *gate) progress(t *admission.Ticket) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return t.Progress()
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

// release gives the place back. Only the first call counts.
func (p *permit) release(o admission.Outcome) {
	if p == nil {
		return
	}
	p.gate.mu.Lock()
	defer p.gate.mu.Unlock()
	if !p.released {
		p.released = true
		wake(p.gate.windows.Ended(p.ticket, o))
	}
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
