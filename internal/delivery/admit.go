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
	// longestAdmission is how long it waits in all for a receiver that answers slowly. Where each place comes free twice in
	// half a second, it is our own processors that it waits for, and it goes on waiting.
	longestAdmission = 3 * time.Second
	promptTurns      = 2
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
	released bool // guarded by gate.mu
}

// enter waits for a place in turn. false: none came in time, or the webhook turned queued.
func (g *gate) enter(ctx context.Context, webhookID uuid.UUID, botID string) (*permit, bool) {
	t := g.offer(webhookID, botID)
	if t == nil {
		return nil, false
	}
	for giveUp := time.Now().Add(longestAdmission); t.Woken != nil; {
		wait, from := g.wait(t), time.Now()
		if !g.await(ctx, t) || g.progress(wait) == 0 || time.Now().After(giveUp) && !g.prompt(wait, from) {
			break
		}
	}
	if !g.granted(t) {
		return nil, false
	}
	return &permit{gate: g, ticket: t}, true
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

// offer returns no ticket where as many deliveries of the bot wait as there is room left for in a process's groups. So one
// bot whose receivers are slow takes half of the room at most, n bots n of n+1 parts, and there is always room for the next.
func (g *gate) offer(webhookID uuid.UUID, botID string) *admission.Ticket {
	g.mu.Lock()
	defer g.mu.Unlock()
	if inFlight, waiting := g.windows.Load(); g.windows.Waiting(botID) >= groupRoom-inFlight-waiting {
		return nil
	}
	t := g.windows.Offer(webhookID, botID)
	if !t.Granted() {
		t.Woken = make(chan struct{})
	}
	return t
}

func (g *gate) wait(t *admission.Ticket) admission.Wait {
	g.mu.Lock()
	defer g.mu.Unlock()
	return t.Wait()
}

func (g *gate) progress(w admission.Wait) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return w.Progress()
}

// prompt says whether places came free since as they do for our own processors only.
func (g *gate) prompt(w admission.Wait, since time.Time) bool {
	return time.Duration(g.progress(w))*admissionPatience >= time.Duration(promptTurns*w.Places)*time.Since(since)
}

// granted says whether the ticket was granted, and takes it back otherwise.
func (g *gate) granted(t *admission.Ticket) bool {
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

// waitingOf is how many deliveries of a bot wait.
func (g *gate) waitingOf(botID string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.windows.Waiting(botID)
}

func wake(tickets []*admission.Ticket) {
	for _, t := range tickets {
		close(t.Woken)
	}
}
