package activities

import (
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/webhook"
)

// slowAnswer is how long an exchange may take before the webhook goes through the slow lane.
const slowAnswer = time.Second

// Attempt is one finished POST: what becomes a row of the history.
type Attempt struct {
	DeliveryID   uuid.UUID
	WebhookID    uuid.UUID
	EventID      string
	Number       int   // 1 for the first attempt
	Generation   int32 // of the webhook, when the attempt began
	Success      bool
	StatusCode   int    // 0: no response came
	ResponseBody []byte // nil: no response came
	Error        string // "" on success
	Duration     time.Duration
	StartedAt    time.Time
	Exchange     []byte // of encodeExchange; nil: nothing is kept of it
}

// standing is what the failure tracking keeps of a webhook.
type standing struct {
	Active       bool
	FailureCount int32
	Generation   int32
	Slow         bool
}

// tally is the whole rule of failure tracking: what one more recorded attempt makes of a webhook's standing.
// A failure that began before the webhook was last enabled does not count. A success ends the run of failures but
// enables nothing.
func tally(s standing, a Attempt) standing {
	s.Slow = a.Duration > slowAnswer
	switch {
	case a.Success:
		s.FailureCount = 0
	case a.Generation == s.Generation:
		s.FailureCount++
		if s.FailureCount >= webhook.MaxFailures {
			s.Active = false
		}
	}
	return s
}
