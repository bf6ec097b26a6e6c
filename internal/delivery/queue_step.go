package delivery

import (
	"time"

	"github.com/mathub/webhooks/internal/history"
)

const (
	// LargestWindow is how many attempts one round makes at most.
	LargestWindow = 32
	// shortestSleep keeps a queue from turning without end should clocks differ.
	shortestSleep = 100 * time.Millisecond
	// pausedSleep is how long a queue sleeps at most that an operator has paused. When the pause is over, the sweep wakes those that have
	// something due; what comes due later, or after a rest, has its time, as the pause may be over by then.
	pausedSleep = time.Hour
)

// StepKind is what a webhook's queue does next.
type StepKind int

const (
	// AttemptRows makes a round of attempts.
	AttemptRows StepKind = iota
	// AwaitTime waits before it looks again.
	AwaitTime
	// EndQueue ends, as no row is left.
	EndQueue
)

// QueueStep is the next step of a webhook's queue.
type QueueStep struct {
	Kind StepKind
	Rows []history.Row // to be attempted
	Wait time.Duration // until the next look
}

// NextStep is the rule of the queue: what is due is sent, oldest first, as much as the window allows, or one while the
// webhook fails or is ordered. Only what a person asked for does not wait until the rest of a failing webhook is over. What an operator has
// paused, nothing is sent of.
func NextStep(s history.QueueState, window int) QueueStep {
	switch {
	case s.Gone || s.Waiting == 0:
		return QueueStep{Kind: EndQueue}
	case len(s.Due) == 0:
		return QueueStep{Kind: AwaitTime, Wait: max(s.NextIn, s.ResumeIn, shortestSleep)}
	case s.Paused != nil:
		return QueueStep{Kind: AwaitTime, Wait: max(soonest(pausedSleep, s.NextIn, s.ResumeIn), shortestSleep)}
	case s.ResumeIn > 0 && !s.Due[0].Trigger.Manual():
		return QueueStep{Kind: AwaitTime, Wait: max(s.ResumeIn, shortestSleep)}
	case s.FailureCount > 0, s.Ordered:
		window = 1
	}
	return QueueStep{Kind: AttemptRows, Rows: s.Due[:min(window, len(s.Due))]}
}

// soonest is the shortest of some waits; 0 is none.
func soonest(wait time.Duration, others ...time.Duration) time.Duration {
	for _, other := range others {
		if other > 0 {
			wait = min(wait, other)
		}
	}
	return wait
}

// NextWindow is the window after a round: one after a failure, twice as large when all of a full round was taken.
func NextWindow(window, rows, failed int) int {
	switch {
	case failed > 0:
		return 1
	case rows < window:
		return window
	}
	return min(2*window, LargestWindow)
}
