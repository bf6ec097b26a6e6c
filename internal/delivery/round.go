package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/allowance"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/webhook"
)

const (
	// maxRoundsPerBot is how many rounds of one bot's queues are in progress at once in a process: what a bot whose
	// webhooks all hang can take of the queues' worker slots.
	maxRoundsPerBot = 32
	// shortestBusy is when a round that was turned away comes again, at the soonest, and longestBusy at the latest.
	shortestBusy, longestBusy = time.Second, 5 * time.Minute
	// roundStint is how long a round begins with a window's attempts, well within its activity's time.
	roundStint = 4 * time.Second
	// restInHand is the longest rest that Look waits out itself, because Temporal's timers fire up to a second late.
	restInHand = 3500 * time.Millisecond
	// restStep is how often it looks meanwhile for what a person asks for, which does not wait.
	restStep = 500 * time.Millisecond
)

// Round is one step of a webhook's queue: attempts that are due, at most a window's worth. While all of them are taken, or left out by a filter, and
// as many more are due, it goes on with those, as a workflow's step costs the engine far more than the attempts do.
type Round struct {
	WebhookID uuid.UUID     `json:"webhookId"`
	BotID     string        `json:"botId"`
	Rows      []history.Row `json:"rows"`
	// Window is how many attempts may be in flight at once.
	Window int `json:"window"`

	// Stopping is closed when the worker stops: no further attempts begin. Nil: it never is.
	Stopping <-chan struct{} `json:"-"`

	justRead bool // Rows are from a moment ago
}

// check finds what no queue's workflow asks for. What its rows say is held against those in Postgres.
func (r Round) check() error {
	switch {
	case r.WebhookID == uuid.Nil:
		return webhook.Invalid("webhookId", "is required")
	case r.Window < 0 || r.Window > LargestWindow:
		return webhook.Invalid("window", fmt.Sprintf("must be 0 to %d", LargestWindow))
	case len(r.Rows) > LargestWindow:
		return webhook.Invalid("rows", fmt.Sprintf("must be at most %d", LargestWindow))
	}
	return nil
}

// RoundResult is how a round ended, and how the queue stands after it.
type RoundResult struct {
	// BusyFor says that nothing was attempted, as the bot has too many rounds in progress, and when to come again.
	BusyFor time.Duration `json:"busyFor,omitempty"`
	// Made are the attempts that were made, of which so many failed.
	Made   int `json:"made"`
	Failed int `json:"failed"`
	// GaveUp are the failed ones of events that no other attempt follows.
	GaveUp int `json:"gaveUp,omitempty"`
	// Window is the one for the next round.
	Window int                `json:"window"`
	State  history.QueueState `json:"state"`

	leftOut int // rows that the webhook's filter left out
	// Searchable is as Audience has it.
	Searchable bool `json:"searchable,omitempty"`
}

// RunRound makes a round's attempts, all of a window at once, and looks at the queue again. Repeated after a crash it sends
// nothing that is recorded.
func (d *Deliverer) RunRound(ctx context.Context, round Round) (RoundResult, error) {
	if err := round.check(); err != nil {
		return RoundResult{}, err
	}
	wait, begun := d.rounds.begin(round.BotID, time.Now())
	if !begun {
		return RoundResult{BusyFor: wait}, nil
	}
	defer d.rounds.end(round.BotID)
	sum := RoundResult{Window: max(1, round.Window), Searchable: d.cfg.Attributes.Known()}
	for until := time.Now().Add(roundStint); ; {
		before, full := sum.Made+sum.leftOut, len(round.Rows) >= sum.Window
		if err := d.runWindow(ctx, round, &sum); err != nil {
			return sum, err
		}
		step, taken := NextStep(sum.State, sum.Window), sum.Failed == 0 && sum.Made+sum.leftOut-before == len(round.Rows)
		if !full || !taken || sum.State.FailureCount > 0 || step.Kind != AttemptRows || time.Now().After(until) || isClosed(round.Stopping) {
			return sum, nil
		}
		round.Rows, round.justRead = step.Rows, true
	}
}

// isClosed reports whether a channel on which nothing is sent is closed. Nil never is.
func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// runWindow makes a window's attempts and adds them up.
func (d *Deliverer) runWindow(ctx context.Context, round Round, sum *RoundResult) error {
	round, target, err := d.narrow(ctx, round)
	if err != nil {
		return err
	}
	round, paid, err := d.allowRound(ctx, round, target)
	if err != nil {
		return err
	}
	results, err := d.runRows(ctx, round, target, paid)
	for i, r := range results {
		switch r.Status {
		case Delivered:
			sum.Made++
		case Failed:
			sum.Made++
			sum.Failed++
			if !r.Retrying && !round.Rows[i].Trigger.Manual() {
				sum.GaveUp++
			}
		case Skipped, Queued:
			if r.Error == FilteredOut {
				sum.leftOut++
			}
		}
	}
	if err != nil {
		return err
	}
	if sum.Window = NextWindow(sum.Window, len(round.Rows), sum.Failed); target.Ordered {
		sum.Window = 1
	}
	sum.State, err = d.queue.Look(ctx, round.WebhookID, sum.Window)
	return err
}

// narrow reduces a round if a failure was recorded since the queue was read: to one attempt, or to none while the webhook
// rests. An operator's pause leaves none. The run of failures that it reads holds for all attempts of the round: they begin together, so all are in
// flight when the first one fails.
func (d *Deliverer) narrow(ctx context.Context, round Round) (Round, db.GetTargetRow, error) {
	target, err := d.queries.GetTarget(ctx, d.cfg.Pool, db.GetTargetParams{ID: round.WebhookID})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return round, db.GetTargetRow{}, nil
	case err != nil:
		return round, target, fmt.Errorf("read webhook %s: %w", round.WebhookID, err)
	case target.BotID != round.BotID: // whose share of the rounds it would take
		return round, target, webhook.Invalid("botId", "must be the webhook's bot")
	case target.Paused:
		round.Rows = nil
		return round, target, nil
	case target.FailureCount == 0:
		target.FailureRun = 0
	}
	if target.Ordered && !round.justRead {
		s, err := d.queue.Look(ctx, round.WebhookID, 1) // what came meanwhile may go first
		if err != nil {
			return round, target, err
		}
		round.Rows = s.Due
	}
	round, err = d.rest(ctx, round, target)
	urgent := len(round.Rows) > 0 && round.Rows[0].Trigger.Manual()
	switch {
	case target.Resting && !urgent:
		round.Rows = nil
	case target.FailureCount > 0, target.Resting:
		round.Rows = round.Rows[:min(1, len(round.Rows))]
	}
	return round, target, err
}

// runRows starts the attempts in order and waits for all.
func (d *Deliverer) runRows(ctx context.Context, round Round, target db.GetTargetRow, paid allowance.Key) ([]Result, error) {
	results, faults := make([]Result, len(round.Rows)), make([]error, len(round.Rows))
	var all sync.WaitGroup
	for i, row := range round.Rows {
		a := queued(round.WebhookID, row)
		a.failureRun, a.paid = target.FailureRun, paid
		if target.Ordered {
			a.until, _ = ctx.Deadline()
			a.stopping = round.Stopping
		}
		all.Go(func() { results[i], faults[i] = d.runRow(ctx, a) })
	}
	all.Wait()
	for _, err := range faults {
		if err != nil {
			return results, err
		}
	}
	return results, nil
}

func (d *Deliverer) runRow(ctx context.Context, a Attempt) (Result, error) {
	r, err := d.Run(ctx, a)
	if err == nil && r.Status == Skipped && r.Error != NotPlanned {
		err = d.queue.Remove(ctx, a.WebhookID, *a.row)
	}
	return r, err
}

// Look reads how a webhook's queue stands, see history.Queue. When a failing webhook's rest is all that keeps the next
// attempt, it waits that out first.
func (d *Deliverer) Look(ctx context.Context, webhookID uuid.UUID, most int) (history.QueueState, error) {
	if most < 0 || most > LargestWindow {
		return history.QueueState{}, webhook.Invalid("most", fmt.Sprintf("must be 0 to %d", LargestWindow))
	}
	s, err := d.queue.Look(ctx, webhookID, most)
	if err != nil || s.Gone || len(s.Due) == 0 || s.Due[0].Trigger.Manual() || s.ResumeIn <= 0 || s.ResumeIn > restInHand || s.Paused != nil {
		return s, err
	}
	for end := time.Now().Add(s.ResumeIn); time.Now().Before(end); {
		if urgent, err := d.queue.IsUrgent(ctx, webhookID); err != nil || urgent {
			break
		}
		if !sleep.For(ctx, min(restStep, time.Until(end))) {
			return s, ctx.Err()
		}
	}
	return d.queue.Look(ctx, webhookID, most)
}

// botRounds counts the rounds in progress by bot, and gives those that it turns away times to come again.
type botRounds struct {
	mu   sync.Mutex
	bots map[string]*botRound
}

type botRound struct {
	inProgress int
	next       time.Time // when the next one turned away is to come again
}

func newBotRounds() *botRounds { return &botRounds{bots: map[string]*botRound{}} }

// begin takes one of the bot's places, or says when to come again: as much later for each as a place takes to come free.
func (b *botRounds) begin(botID string, now time.Time) (wait time.Duration, begun bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.bots[botID]
	if r == nil {
		r = &botRound{}
		b.bots[botID] = r
	}
	if r.inProgress < maxRoundsPerBot {
		r.inProgress++
		return 0, true
	}
	r.next = r.next.Add(webhook.AttemptTimeout / maxRoundsPerBot)
	if soonest := now.Add(shortestBusy); r.next.Before(soonest) {
		r.next = soonest
	}
	if latest := now.Add(longestBusy); r.next.After(latest) {
		r.next = latest
	}
	return r.next.Sub(now), false
}

func (b *botRounds) end(botID string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.bots[botID]
	if r.inProgress--; r.inProgress == 0 {
		delete(b.bots, botID)
	}
}

func (b *botRounds) total() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.bots {
		n += r.inProgress
	}
	return n
}
