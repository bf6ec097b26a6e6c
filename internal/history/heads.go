package history

import (
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// slowLook is from when on a look at a queue is slow, and slowLooks how many of them in a row say that it steps over rows that
	// are gone.
	slowLook, slowLooks = 10 * time.Millisecond, 3
	// headKept is how many times as long as a slow look took the next ones begin at the head that it found, and longestHead for
	// how long at most.
	headKept, longestHead = 20, 3 * time.Second
	// beforeHead is by how much earlier they begin: an attempt that is planned again may be due a little earlier.
	beforeHead = time.Minute
	// mostHeads bounds the memory of those that nobody looks at any more.
	mostHeads = 1000
)

// heads remembers where queues begin whose looks are slow: while a long transaction, such as a dump's, keeps Postgres from clearing
// away what was sent, each look would step over all of it. What somebody adds before a head is found a little later. The zero value
// is ready, and nil remembers none.
type heads struct {
	mu   sync.Mutex
	byID map[uuid.UUID]head // guarded by mu
}

type head struct {
	slow  int // looks in a row
	dueAt time.Time
	until time.Time // when all is to be looked at again; zero: it is not known
}

// of is where a look at a webhook's queue may begin.
func (h *heads) of(webhookID uuid.UUID) (known head, isKnown bool) {
	if h == nil {
		return head{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	known = h.byID[webhookID]
	return known, time.Now().Before(known.until)
}

// looked notes that a look at all of a queue took so long, and when the first that it found is due.
func (h *heads) looked(webhookID uuid.UUID, took time.Duration, first time.Time) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.byID[webhookID]
	switch {
	case took < slowLook:
		delete(h.byID, webhookID)
		return
	case h.byID == nil, now.slow == 0 && len(h.byID) >= mostHeads:
		h.byID = map[uuid.UUID]head{}
	}
	if now.slow++; now.slow >= slowLooks {
		now.dueAt, now.until = first.Add(-beforeHead), time.Now().Add(min(headKept*took, longestHead))
	}
	h.byID[webhookID] = now
}

// forget has the next look begin at a queue's very beginning.
func (h *heads) forget(webhookID uuid.UUID) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.byID, webhookID)
}
