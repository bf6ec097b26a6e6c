package delivery

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/allowance"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// Attempt is one attempt to deliver one event to one webhook.
type Attempt struct {
	EventID   string          `json:"eventId"`
	WebhookID uuid.UUID       `json:"webhookId"`
	Number    int             `json:"number"` // 1 for the first
	Trigger   webhook.Trigger `json:"trigger"`

	// row is the row of the webhook's queue that asks for the attempt; nil: the attempt is direct.
	row *history.Row
	// failureRun is the webhook's run of failures when the round began that row is of, 0 for none.
	failureRun int32
	// acceptedAt is when Postgres accepted the event: with it the attempt's delivery has an id.
	acceptedAt time.Time
	// until is when another worker may be given an ordered webhook's round: the POST has to end before it. Zero: there is no bound.
	until time.Time
	// stopping is closed when this worker stops, and another is given an ordered webhook's round. Nil: it is not waited for.
	stopping <-chan struct{}
	// paid is whom the round has taken an allowance for.
	paid allowance.Key
}

// First is the first attempt to deliver an event to a webhook.
func First(eventID string, webhookID uuid.UUID) Attempt {
	return Attempt{EventID: eventID, WebhookID: webhookID, Number: 1, Trigger: webhook.TriggerEvent}
}

func queued(webhookID uuid.UUID, row history.Row) Attempt {
	return Attempt{EventID: row.EventID, WebhookID: webhookID, Number: row.Attempt, Trigger: row.Trigger, row: &row}
}

// key names the attempt, the same whenever it is repeated.
func (a Attempt) key() uuid.UUID { return webhook.AttemptKey(a.EventID, a.WebhookID, a.Number) }

// deliveryID is the id of the delivery that the attempt makes, once prepare has read the event.
func (a Attempt) deliveryID() uuid.UUID { return webhook.DeliveryID(a.acceptedAt, a.key()) }

// String says which attempt it is, in errors.
func (a Attempt) String() string {
	return fmt.Sprintf("%d of event %s at webhook %s", a.Number, a.EventID, a.WebhookID)
}

// Check finds what no attempt of ours has, so that one that was asked for by hand harms nothing.
func (a Attempt) Check() error {
	switch {
	case a.row != nil: // held against what is planned
		return nil
	case !webhook.ValidID(a.EventID):
		return webhook.Invalid("eventId", "must be an event's id")
	case a.WebhookID == uuid.Nil:
		return webhook.Invalid("webhookId", "is required")
	case a.Trigger == webhook.TriggerRedeliver && a.Number >= 1: // held against what was attempted
		return nil
	case a.Number != 1:
		return webhook.Invalid("number", "must be 1 for a first attempt, or that of the next attempt")
	case a.Trigger != webhook.TriggerEvent && a.Trigger != webhook.TriggerTest && a.Trigger != webhook.TriggerVerify:
		return webhook.Invalid("trigger", "must be event, redeliver, test or verify")
	}
	return nil
}

// step is the attempt's place in the retry schedule, 0 for none.
func (a Attempt) step() int {
	switch {
	case a.row != nil:
		return a.row.Step
	case a.Trigger.Manual():
		return 0
	}
	return a.Number
}

// Status is how an attempt ended.
type Status string

const (
	// Delivered says that the receiver took it.
	Delivered Status = "delivered"
	// Failed says that the receiver did not take it. A failure counts.
	Failed Status = "failed"
	// Skipped says that nothing was sent, and nothing is to be; Result.Error says why.
	Skipped Status = "skipped"
	// Queued says that nothing was sent yet: the webhook's queue sends it.
	Queued Status = "queued"
)

// Why a delivery was skipped.
const (
	EventGone       = "event no longer kept"
	WebhookGone     = "webhook deleted"
	WebhookDisabled = "webhook disabled"
	NotSubscribed   = "webhook no longer subscribed to the event"
	FilteredOut     = "left out by the webhook's filter"
	AlreadyTaken    = "webhook has taken the event already"
	NotPlanned      = "no longer planned"
	BotSuspended    = "bot suspended"
	NotAddressed    = "event is not for the webhook's bot"
	NotVerified     = "endpoint not verified"
	// InOrder says that an ordered webhook's event waits for others, which go first.
	InOrder = "waits for the events before it"
	// Paused says that an operator has stopped deliveries.
	Paused = "deliveries paused"
	// RateLimited says that the bot has sent as much to an endpoint that is not verified as it may; Result.RetryIn says when it
	// may again.
	RateLimited = "rate of unverified endpoints reached"
)

// Result is how an attempt ended, as the workflow's history keeps it: nothing in it comes from the receiver but a
// status code, and nothing is secret.
type Result struct {
	Status     Status `json:"status"`
	StatusCode int    `json:"statusCode,omitempty"`
	Error      string `json:"error,omitempty"`
	// Retrying: the webhook's queue attempts a failed delivery again.
	Retrying bool `json:"retrying,omitempty"`
	// NoRetryReason is why a failed delivery is not attempted again, whatever the schedule says: what became of the webhook.
	NoRetryReason string `json:"noRetryReason,omitempty"`
	// RetryIn is when a failed notice is due again, see NotifyOwner, and what is RateLimited may be sent.
	RetryIn time.Duration `json:"retryIn,omitempty"`
}
