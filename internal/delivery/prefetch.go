package delivery

import (
	"crypto/ed25519"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/webhook"
)

const (
	// inputFresh is how old an input may be when its POST begins: what a webhook's change finds younger is as if it had been
	// sent just before. An older one is read again.
	inputFresh = 2 * time.Second
	// prefetchKept is how long an input is kept beyond that: a delivery that begins later still tells how late it is.
	prefetchKept = 10 * time.Second
	// prefetchMost bounds the memory of inputs whose delivery never came to this process, to some 25 MB. It has room for the
	// deliveries of a few groups of events with a hundred webhooks each.
	prefetchMost = 100_000
)

// endpoint is where a webhook's events are sent, in clear.
type endpoint struct {
	url     string
	secrets []string // that sign, the present one first; none is empty
	headers webhook.CustomHeaders
	keys    []ed25519.PrivateKey // that sign too
}

// sealedEndpoint is an endpoint as Postgres has it.
type sealedEndpoint struct{ url, secret, previousSecret, extras []byte }

// attemptInput is all that an attempt needs.
type attemptInput struct {
	event storedEvent
	endpoint
	botID      string
	generation int32
	failureRun int32 // 0: the webhook has no run of failures
	queued     bool  // the webhook is
	verified   bool  // the endpoint is
	urlVersion int32 // known where the endpoint is asked
	readAt     time.Time
	// acceptedAt is about when the event was accepted; zero where that is long ago.
	acceptedAt time.Time
}

// prefetch passes what the subscriber lookup has read to the deliveries that follow within milliseconds in the same
// process, so that they need not read it again. It is a shortcut only: a delivery that finds nothing here reads
// Postgres. Each input is taken once, so a repeated delivery always reads whether it is recorded already.
type prefetch struct {
	mu     sync.Mutex
	inputs map[uuid.UUID]attemptInput
	order  []uuid.UUID // oldest first; ids of inputs already taken included
}

func newPrefetch() *prefetch { return &prefetch{inputs: map[uuid.UUID]attemptInput{}} }

func (p *prefetch) put(deliveryID uuid.UUID, in attemptInput) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.order) > 0 {
		oldest, held := p.inputs[p.order[0]]
		if held && len(p.order) < prefetchMost && time.Since(oldest.readAt) < prefetchKept {
			break
		}
		delete(p.inputs, p.order[0])
		p.order = p.order[1:]
	}
	p.inputs[deliveryID] = in
	p.order = append(p.order, deliveryID)
}

// take returns an input, and whether it may be used. One that is too old says by its readAt when it was fresh.
func (p *prefetch) take(deliveryID uuid.UUID) (attemptInput, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	in, ok := p.inputs[deliveryID]
	delete(p.inputs, deliveryID)
	return in, ok && time.Since(in.readAt) < inputFresh
}
