package history

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/failpoint"
	"github.com/mathub/webhooks/webhook"
)

// incidentRun makes a step of an incident.
type incidentRun struct {
	*Queue
	id      uuid.UUID
	options IncidentOptions
}

// errNotClaimed: the incident does not run any more, or another has come to the webhook.
var errNotClaimed = errors.New("another has come to the webhook")

// incidentMark is what becomes of an incident's webhook.
type incidentMark struct {
	state, reason string
	recoveryID    uuid.NullUUID
}

func skipped(reason string) incidentMark {
	return incidentMark{state: incidentSkipped, reason: reason}
}

func failed(reason string) incidentMark {
	return incidentMark{state: incidentFailed, reason: reason}
}

// enable enables the next webhooks.
func (r incidentRun) enable(ctx context.Context) error {
	rows, err := db.New().IncidentToEnable(ctx, r.Pool, db.IncidentToEnableParams{IncidentID: r.id, Most: incidentPage})
	if err != nil {
		return err
	}
	for _, row := range rows {
		err := r.change(ctx, row.WebhookID, incidentFound, func(ctx context.Context, tx pgx.Tx, note func(audit.Change) error) (incidentMark, error) {
			return r.enableOne(ctx, tx, note, row)
		})
		if err != nil {
			return err
		}
		failpoint.Here("incident-enabled")
	}
	return nil
}

func (r incidentRun) enableOne(ctx context.Context, tx pgx.Tx, note func(audit.Change) error, row db.IncidentToEnableRow) (incidentMark, error) {
	w, err := lockAndRead(ctx, tx, row.WebhookID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return skipped("webhook deleted"), nil
	case err != nil:
		return incidentMark{}, err
	case w.Suspended:
		return skipped("bot suspended"), nil
	case w.IsActive || w.Generation != row.Generation: // or was, until it was disabled again
		return skipped("enabled meanwhile"), nil
	}
	n, err := db.New().UndoDisabling(ctx, tx, w.ID)
	if err != nil || n == 0 {
		return skipped("not disabled by failures"), err
	}
	return incidentMark{state: incidentEnabled}, note(enabledAgain(w.ID, w.BotID, audit.Fields{"incident": r.id}))
}

// recover begins recoveries of webhooks that are enabled: one with work at a time of each bot, as a bot may have many for one receiver.
func (r incidentRun) recover(ctx context.Context) (begun []Webhook, err error) {
	queries := db.New()
	busy, err := queries.BusyOfIncident(ctx, r.Pool, db.BusyOfIncidentParams{IncidentID: r.id, AheadSeconds: recoveryAhead.Seconds()})
	if err != nil || busy >= incidentRecoveries {
		return nil, err
	}
	webhooks, err := queries.IncidentToRecover(ctx, r.Pool, db.IncidentToRecoverParams{
		IncidentID: r.id, AheadSeconds: recoveryAhead.Seconds(), Most: incidentRecoveries - int32(busy),
	})
	if err != nil {
		return nil, err
	}
	for _, id := range webhooks {
		var w db.Webhook
		began := false
		err := r.change(ctx, id, incidentEnabled, func(ctx context.Context, tx pgx.Tx, note func(audit.Change) error) (mark incidentMark, err error) {
			w, mark, err = r.recoverOne(ctx, tx, note, id)
			began = mark.state == incidentRecovering
			return mark, err
		})
		if err != nil {
			return begun, err
		}
		if began {
			begun = append(begun, Webhook{w.ID, w.BotID, webhook.HostOf(w.Origin)})
			failpoint.Here("incident-recovering")
		}
	}
	return begun, nil
}

func (r incidentRun) recoverOne(ctx context.Context, tx pgx.Tx, note func(audit.Change) error, id uuid.UUID) (w db.Webhook, mark incidentMark, err error) {
	queries := db.New()
	botID, err := queries.LockOwner(ctx, tx, id)
	if err == nil {
		w, err = lockAndRead(ctx, tx, id)
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return w, skipped("webhook deleted"), nil
	case err != nil:
		return w, mark, err
	case w.Suspended:
		return w, failed("bot suspended"), nil
	case !w.IsActive:
		return w, failed("webhook disabled"), nil
	case w.VerifiedAt == nil && r.options.MustBeVerified:
		return w, failed("endpoint not verified"), nil
	}
	if err = mayRecover(ctx, tx, w); err != nil {
		if errors.As(err, new(RecoveryRunningError)) {
			err = errNotClaimed // its turn comes when the other recovery has no work left
		}
		return w, mark, err
	}
	span, _, err := RecoverySpan(ctx, tx, w, r.options.Kept)
	if err != nil {
		return w, mark, err
	}
	recovery, err := beginRecovery(ctx, tx, note, botID, span)
	return w, incidentMark{state: incidentRecovering, recoveryID: uuid.NullUUID{UUID: recovery.ID, Valid: true}}, err
}

// change makes a change of one webhook, in a transaction that also marks what has become of it. One that Postgres refuses to
// change keeps no other from it.
func (r incidentRun) change(ctx context.Context, webhookID uuid.UUID, from string, make func(context.Context, pgx.Tx, func(audit.Change) error) (incidentMark, error)) error {
	err := audit.Tx(ctx, r.Pool, r.Log, func(tx pgx.Tx, note func(audit.Change) error) error {
		mark, err := make(ctx, tx, note)
		if err != nil {
			return err
		}
		return r.mark(ctx, tx, webhookID, from, mark)
	})
	if err == nil || errors.Is(err, errNotClaimed) {
		return nil
	}
	if !isRefusal(err) {
		return err
	}
	refused := failed("refused: " + webhook.Shorten(err.Error()))
	if from == incidentFound {
		refused.state = incidentSkipped
	}
	err = db.WithTx(ctx, r.Pool, func(tx pgx.Tx) error { return r.mark(ctx, tx, webhookID, from, refused) })
	if errors.Is(err, errNotClaimed) {
		return nil
	}
	return err
}

// mark notes what becomes of a webhook, while the incident runs and nobody else has come to it. The webhook's lock is taken
// before the incident's: whoever pauses it waits for this transaction.
func (r incidentRun) mark(ctx context.Context, tx pgx.Tx, webhookID uuid.UUID, from string, mark incidentMark) error {
	queries := db.New()
	_, err := queries.ClaimIncidentWebhook(ctx, tx, db.ClaimIncidentWebhookParams{IncidentID: r.id, WebhookID: webhookID, State: from})
	if errors.Is(err, pgx.ErrNoRows) {
		return errNotClaimed
	}
	if err != nil {
		return err
	}
	return queries.MarkIncidentWebhook(ctx, tx, db.MarkIncidentWebhookParams{
		IncidentID: r.id, WebhookID: webhookID, State: mark.state, Reason: mark.reason, RecoveryID: mark.recoveryID,
	})
}

// cancel ends the recoveries that run.
func (r incidentRun) cancel(ctx context.Context) error {
	running, err := db.New().RecoveringOfIncident(ctx, r.Pool, r.id)
	for _, recovery := range running {
		if err == nil {
			err = r.cancelRecovery(ctx, recovery.WebhookID, recovery.ID)
		}
		if errors.Is(err, pgx.ErrNoRows) { // the webhook was deleted
			err = nil
		}
	}
	return err
}
