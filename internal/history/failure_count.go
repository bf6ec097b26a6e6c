package history

import (
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/webhook"
)

const (
	// maxEarlyFailures is how many failures count of attempts that were in flight when a run's first failure was recorded.
	// Five more, of attempts that began later, disable the webhook.
	maxEarlyFailures = 5
	// heldRest is for a webhook that a fuse keeps from being disabled: it may fail for hours.
	heldRest = 30 * time.Second
	// laterRest follows what firstRests are for.
	laterRest = time.Second
	// restSpread is by how much, at random, a rest is longer at most, so that webhooks that fail together are tried apart.
	restSpread = 250 * time.Millisecond
)

// firstRests are the rests before each of the first five attempts after a webhook's first failure, 13 s in all. It takes
// five failures of such attempts to disable the webhook, so a receiver that restarts or hangs for 12 s stays enabled. With
// laterRest, ten failing events disable a webhook within 20 s (docs/decisions/direct-or-queued.md).
var firstRests = [...]time.Duration{500 * time.Millisecond, 2 * time.Second, 3500 * time.Millisecond, 3500 * time.Millisecond, 3500 * time.Millisecond}

// Attempt is one finished POST: what becomes a row of the history.
type Attempt struct {
	DeliveryID uuid.UUID
	WebhookID  uuid.UUID
	EventID    string
	Number     int // 1 for the first attempt
	Trigger    webhook.Trigger
	// Generation and FailureRun are the webhook's when the attempt was prepared. FailureRun is 0 when it had no run of
	// failures.
	Generation, FailureRun int32
	Success                bool
	StatusCode             int    // 0: no response came
	ResponseBody           []byte // nil: no response came
	Error                  string // "" on success
	Class                  string // of the error, see egress.Classes; "" on success
	Duration               time.Duration
	StartedAt              time.Time
	Exchange               []byte // of EncodeExchange; nil: nothing is kept of it

	// Queued: the attempt was the queue's, or may have a row there for another reason.
	Queued bool
	// Step is the attempt's place in the retry schedule, 0 for none, and RetryIn when the next one is due if this one
	// failed; 0: there is none.
	Step    int
	RetryIn time.Duration
	// RecoveryID is the recovery that asked for it, or Nil.
	RecoveryID uuid.UUID
}

// Health is what the failure count keeps of a webhook: a pure value, see After.
type Health struct {
	Active        bool
	Queued        bool
	FailureCount  int32
	EarlyFailures int32
	Generation    int32
	FailureRun    int32
	FailureClass  string
}

// After is the whole rule of the failure count: what one more recorded attempt makes of a webhook's health. held says
// that a fuse keeps failures of the attempt's class from disabling it.
//
// A failure that began before the webhook was last enabled does not count. Of those that began before it was known that
// the webhook fails, five count. A success ends the run of failures but enables nothing. What comes of a verification counts
// neither way: an endpoint that does not know of it is none the worse.
func (h Health) After(a Attempt, held bool) Health {
	if a.Trigger == webhook.TriggerVerify {
		return h
	}
	if a.Success {
		h.FailureCount, h.EarlyFailures = 0, 0
		return h
	}
	if a.Generation != h.Generation {
		return h
	}
	if h.Active { // of a disabled webhook it stays what disabled it, whatever a test or a late attempt meets
		h.FailureClass = a.Class
	}
	h.Queued = true
	switch {
	case h.FailureCount == 0:
		h.FailureRun++
		h.FailureCount, h.EarlyFailures = 1, 1
	case a.FailureRun == h.FailureRun:
		h.FailureCount++
	case h.EarlyFailures < maxEarlyFailures:
		h.FailureCount++
		h.EarlyFailures++
	}
	if h.FailureCount >= webhook.MaxFailures && !held {
		h.Active = false
	}
	return h
}

// Rest is how long the webhook is left alone after a failure, at least.
func (h Health) Rest() time.Duration {
	known := int(h.FailureCount - h.EarlyFailures)
	switch {
	case h.FailureCount == 0, !h.Active:
		return 0
	case h.FailureCount >= webhook.MaxFailures:
		return heldRest
	case known < len(firstRests):
		return firstRests[known]
	}
	return laterRest
}

// spread adds up to restSpread, at random, to a rest.
func spread(rest time.Duration) time.Duration {
	if rest == 0 {
		return 0
	}
	return rest + rand.N(restSpread)
}
