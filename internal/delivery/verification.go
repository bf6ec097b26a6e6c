package delivery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/allowance"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/webhook"
)

// NoNonce is the error of a verification that the endpoint took, without agreeing to the webhook's deliveries.
const NoNonce = "the answer is not the nonce"

// mayNot says whether an attempt is not to be made at an endpoint that has not agreed.
func (d *Deliverer) mayNot(t webhook.Trigger, verified bool) bool {
	return !verified && d.cfg.Verification == webhook.VerificationRequire && t != webhook.TriggerVerify
}

// unverifiedRest is how long a queue rests whose endpoint may be sent nothing before it agrees. That it agrees ends the rest.
const unverifiedRest = 5 * time.Minute

// rest reduces the round of an unverified endpoint that must be verified first to the attempts that a person asked for. The
// others stay planned until the endpoint is verified. If none is left, the webhook's queue rests.
func (d *Deliverer) rest(ctx context.Context, round Round, target db.GetTargetRow) (Round, error) {
	if target.Resting || !d.mayNot(webhook.TriggerEvent, target.Verified) {
		return round, nil
	}
	asked := slices.DeleteFunc(slices.Clone(round.Rows), func(row history.Row) bool { return !row.Trigger.Manual() })
	if len(asked) == 0 && len(round.Rows) > 0 {
		if err := d.queue.Rest(ctx, round.WebhookID, unverifiedRest); err != nil {
			return round, fmt.Errorf("rest the queue of webhook %s: %w", round.WebhookID, err)
		}
	}
	round.Rows = asked
	return round, nil
}

// allow takes of what the bot may send to an endpoint that has not agreed. A wait above 0: there is nothing for now. What the
// queue sends, its round has taken.
func (d *Deliverer) allow(ctx context.Context, a Attempt, in attemptInput) (wait time.Duration, err error) {
	if in.verified || d.limiter.IsOff() {
		return 0, nil
	}
	to := allowance.Key{BotID: in.botID, Endpoint: webhook.PartyOf(in.url)}
	switch {
	case a.row == nil:
		return d.limiter.TakeOne(ctx, to)
	case a.paid != to: // the URL was changed since: the next round takes for the new one
		return shortestBusy, nil
	}
	return 0, nil
}

// notAllowed is for an attempt that allow gave nothing for, or could not ask for: the webhook's queue makes it, and a
// person's call is answered with the time to wait.
func (d *Deliverer) notAllowed(ctx context.Context, a Attempt, wait time.Duration, err error) (Result, error) {
	switch {
	case err != nil:
		return d.leaveToQueue(ctx, a, err)
	case a.row != nil:
		return Result{Status: Queued}, nil // in its place
	}
	if a.Trigger.Manual() {
		return Result{Status: Skipped, Error: RateLimited, RetryIn: wait}, nil
	}
	return d.leaveToQueue(ctx, a, nil)
}

// allowRound leaves of a round what may be sent to an endpoint that has not agreed. The webhook's queue rests until more may be.
func (d *Deliverer) allowRound(ctx context.Context, round Round, target db.GetTargetRow) (Round, allowance.Key, error) {
	if target.Origin == "" || target.Verified || d.limiter.IsOff() || len(round.Rows) == 0 {
		return round, allowance.Key{}, nil
	}
	to := allowance.Key{BotID: target.BotID, Endpoint: webhook.PartyOf(target.Origin)}
	if round.Rows[0].Trigger.Manual() {
		round, err := d.allowPersons(ctx, round, to)
		return round, to, err
	}
	granted, wait, err := d.limiter.TakeForQueue(ctx, to, len(round.Rows))
	if err != nil || granted == len(round.Rows) {
		return round, to, err
	}
	round.Rows = round.Rows[:granted]
	return round, to, d.queue.Rest(ctx, round.WebhookID, wait)
}

// personsPatience is how long a round waits for what a person waits for.
const personsPatience = 2 * time.Second

// allowPersons leaves of a round the one attempt that a person waits for, which does not rest with the webhook's queue: it
// takes what comes free next. Should others be quicker for long, it is put off.
func (d *Deliverer) allowPersons(ctx context.Context, round Round, to allowance.Key) (Round, error) {
	row := round.Rows[0]
	for until := time.Now().Add(personsPatience); ; {
		wait, err := d.limiter.TakeOne(ctx, to)
		switch {
		case err != nil || wait == 0:
			round.Rows = round.Rows[:1]
			return round, err
		case time.Now().Add(wait).After(until):
			round.Rows = nil
			return round, d.queue.Postpone(ctx, round.WebhookID, row, max(wait, shortestBusy))
		}
		if !sleep.For(ctx, wait) {
			return round, ctx.Err()
		}
	}
}

// setVerified keeps that an endpoint has agreed to the deliveries of the webhook, unless that has another URL by now.
func (d *Deliverer) setVerified(ctx context.Context, a Attempt, in attemptInput, resp egress.Response) error {
	if a.Trigger != webhook.TriggerVerify || !resp.Success() {
		return nil
	}
	waits, err := d.queries.SetVerified(ctx, d.cfg.Pool, db.SetVerifiedParams{ID: a.WebhookID, URLVersion: in.urlVersion})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("store that webhook %s is verified: %w", a.WebhookID, err)
	}
	if waits && a.row == nil { // the queue itself looks again
		d.cfg.Wake(Target{WebhookID: a.WebhookID, BotID: in.botID, Host: webhook.HostOf(in.url)})
	}
	return nil
}

// PrepareVerification stores a verification and says how it is sent.
func (d *Deliverer) PrepareVerification(ctx context.Context, in TestEvent) (Route, error) {
	return d.prepareManual(ctx, in, webhook.TriggerVerify, func(botID string) webhook.Event {
		return webhook.VerifyEvent(in.WebhookID, botID, rand.Text(), in.At)
	})
}

// refuseManual says why an attempt that a person asked for cannot be made now, or returns nil. It runs before the attempt goes
// to the webhook's queue, from where the caller would not learn the reason.
func (d *Deliverer) refuseManual(ctx context.Context, a Attempt, target db.GetTargetRow) (*Result, error) {
	if d.mayNot(a.Trigger, target.Verified) {
		return &Result{Status: Skipped, Error: NotVerified}, nil
	}
	if target.Verified {
		return nil, nil //nolint:nilnil // it is to be made
	}
	wait, err := d.limiter.FreeIn(ctx, allowance.Key{BotID: target.BotID, Endpoint: webhook.PartyOf(target.Origin)})
	if err != nil {
		return nil, fmt.Errorf("read the allowance of webhook %s: %w", a.WebhookID, err)
	}
	if wait > 0 {
		return &Result{Status: Skipped, Error: RateLimited, RetryIn: wait}, nil
	}
	return nil, nil //nolint:nilnil // it is to be made
}
