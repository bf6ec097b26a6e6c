package webhook

// Trigger is what asked for a delivery attempt.
type Trigger string

// The triggers.
const (
	TriggerEvent     Trigger = "event"     // an event was emitted: the first attempt
	TriggerRetry     Trigger = "retry"     // the attempt before failed
	TriggerRedeliver Trigger = "redeliver" // a person asked for the event again
	TriggerRecover   Trigger = "recover"   // a recovery of what the webhook missed
	TriggerTest      Trigger = "test"      // a person asked for a test event
	TriggerVerify    Trigger = "verify"    // the endpoint is asked whether it wants deliveries
)

// Triggers are all of them.
func Triggers() []Trigger {
	return []Trigger{TriggerEvent, TriggerRetry, TriggerRedeliver, TriggerRecover, TriggerTest, TriggerVerify}
}

// Manual says whether a person waits for the attempt, or may: it is made at once, also to a disabled webhook.
func (t Trigger) Manual() bool {
	return t == TriggerRedeliver || t == TriggerTest || t == TriggerVerify
}
