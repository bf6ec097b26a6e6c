package activities

import (
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// handoffFresh is how old a handed-over job may be to be used as it is: within it, a webhook's change is as if
	// it had come just after the delivery.
	handoffFresh = 2 * time.Second
	// handoffMost bounds the memory of jobs whose delivery never came to this process.
	handoffMost = 20_000
)

// job is all that a delivery needs.
type job struct {
	event      storedEvent
	url        string
	secrets    []string
	botID      string
	generation int32
	failing    bool
	readAt     time.Time
}

// handoff passes what the subscriber lookup has read to the deliveries that follow within milliseconds in the same
// process, so that they need not read it again. It is a shortcut only: a delivery that finds nothing here reads
// Postgres. Each job is taken once, so a repeated delivery always reads whether it is recorded already.
type handoff struct {
	mu    sync.Mutex
	jobs  map[uuid.UUID]job
	bots  map[string]int // how many of them are a bot's
	order []uuid.UUID    // oldest first; ids of jobs already taken included
}

func newHandoff() *handoff { return &handoff{jobs: map[uuid.UUID]job{}, bots: map[string]int{}} }

func (h *handoff) put(deliveryID uuid.UUID, j job) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expire()
	h.remove(deliveryID)
	h.jobs[deliveryID] = j
	h.bots[j.botID]++
	h.order = append(h.order, deliveryID)
}

func (h *handoff) take(deliveryID uuid.UUID) (job, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	j, ok := h.jobs[deliveryID]
	h.remove(deliveryID)
	return j, ok && time.Since(j.readAt) < handoffFresh
}

// expire drops what is not fresh any more, or too much.
func (h *handoff) expire() {
	for len(h.order) > 0 {
		oldest, held := h.jobs[h.order[0]]
		if held && len(h.order) < handoffMost && time.Since(oldest.readAt) < handoffFresh {
			break
		}
		h.remove(h.order[0])
		h.order = h.order[1:]
	}
}

func (h *handoff) remove(deliveryID uuid.UUID) {
	j, ok := h.jobs[deliveryID]
	if !ok {
		return
	}
	delete(h.jobs, deliveryID)
	if h.bots[j.botID]--; h.bots[j.botID] == 0 {
		delete(h.bots, j.botID)
	}
}

// onTheirWay counts, by bot, the jobs whose deliveries have yet to come.
func (h *handoff) onTheirWay() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expire()
	return maps.Clone(h.bots)
}

func (h *handoff) onTheirWayTo(botID string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expire()
	return h.bots[botID]
}
