package history

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/webhook"
)

// The fuse keeps a fault of our own network, which looks to each receiver as if it were the receiver's, from disabling
// webhooks in numbers. It blows for a class of failure that could be ours (egress.CouldBeOurs) when more than a fifth of
// the active webhooks would be disabled by it within five minutes, at five hosts or more, and of three bots or more (all,
// where there are fewer): one bot has as many names as it likes. Then none is disabled by that class, and those that were
// within the five minutes are enabled again and recovered. It is reset by the first success of a webhook that failed so
// (dns: at a name), or by an operator.
const (
	fuseSpan  = 5 * time.Minute
	fuseHosts = 5
	fuseBots  = 3
	fuseShare = 5 // one in so many
)

// disproves says whether a success at a host shows that a class of failure is over: that of an address says nothing of our
// resolver.
func disproves(class, host string) bool {
	_, err := netip.ParseAddr(webhook.Hostname(host))
	return class != "dns" || err != nil
}

// fuseState is what a batch knows of the fuse of a class. It is read once, as it takes looks at all webhooks: a batch disables hundreds
// in an outage, in which others' recordings must not wait for that.
type fuseState struct {
	held     bool            // it is blown
	hosts    map[string]bool // of the webhooks that the class has disabled lately
	bots     map[string]bool // likewise
	disabled int             // how many these are, with those of the batch
	before   int             // without those
	active   int             // all that were active before the batch; 0: that was not counted yet
	others   []string        // of the bots that have these, the first fuseBots
}

// isHeld says whether the fuse of a class of failure keeps it from disabling one webhook more, and blows it when it must. One that it does
// not keep is disabled by the batch.
func (r *Recorder) isHeld(ctx context.Context, s *batchState, class string, w db.WebhookHealthRow) (bool, error) {
	f, err := r.fuse(ctx, s, class)
	if err != nil || f.held {
		return err == nil, err
	}
	f.add(w.BotID, w.Origin)
	f.disabled++
	if len(f.hosts) < fuseHosts {
		return false, nil
	}
	if err := r.countActive(ctx, s, f); err != nil {
		return false, err
	}
	if fuseShare*f.disabled <= f.active+f.before || !f.ofManyBots() {
		return false, nil
	}
	f.held = true
	s.out.blown = append(s.out.blown, class)
	return true, r.queries.BlowFuse(ctx, s.tx, class)
}

func (f *fuseState) add(botID, origin string) {
	f.hosts[webhook.Hostname(webhook.HostOf(origin))] = true
	f.bots[botID] = true
}

// ofManyBots says whether the class has disabled webhooks of fuseBots bots, or of all that have any.
func (f *fuseState) ofManyBots() bool {
	return len(f.bots) >= fuseBots || !slices.ContainsFunc(f.others, func(botID string) bool { return !f.bots[botID] })
}

// countActive counts the active webhooks, unless the batch has.
func (r *Recorder) countActive(ctx context.Context, s *batchState, f *fuseState) error {
	if f.active > 0 {
		return nil
	}
	active, err := r.queries.CountActiveWebhooks(ctx, s.tx)
	if err != nil {
		return err
	}
	f.active = int(active)
	f.others, err = r.queries.BotsWithActiveWebhooks(ctx, s.tx, fuseBots)
	return err
}

// fuse reads how the fuse of a class stands, unless the batch knows.
func (r *Recorder) fuse(ctx context.Context, s *batchState, class string) (*fuseState, error) {
	if f := s.fuses[class]; f != nil {
		return f, nil
	}
	held, err := r.queries.IsFuseBlown(ctx, s.tx, class)
	if err != nil {
		return nil, err
	}
	f := &fuseState{held: held, hosts: map[string]bool{}, bots: map[string]bool{}}
	if s.fuses[class] = f; held {
		return f, nil
	}
	now, err := db.ReadClock(ctx, s.tx) // by which disabled_at is
	if err != nil {
		return f, err
	}
	since := now.Add(-fuseSpan)
	before, err := r.queries.DisabledByClass(ctx, s.tx, db.DisabledByClassParams{Class: class, Since: &since})
	if err != nil {
		return f, err
	}
	for _, w := range before {
		f.add(w.BotID, w.Origin)
	}
	f.before, f.disabled = len(before), len(before)
	return f, nil
}

// UndoFused enables the webhooks again that were disabled by a class of failure before its fuse blew, and starts to
// recover what they missed: also of a fuse that was reset before anyone came to undo it. It may be repeated.
func (r *Recorder) UndoFused(ctx context.Context) error {
	fuses, err := r.queries.FusesToUndo(ctx, r.pool)
	if err != nil {
		return fmt.Errorf("read the fuses: %w", err)
	}
	for _, fuse := range fuses {
		if failed := r.undoFuse(ctx, fuse); failed != nil { // one fuse does not keep the others from it
			err = errors.Join(err, failed)
		} else if fuse.ResetAt != nil {
			err = errors.Join(err, r.queries.RemoveFuse(ctx, r.pool, fuse.Class))
		}
	}
	return err
}

func (r *Recorder) undoFuse(ctx context.Context, fuse db.Fuse) error {
	since := fuse.BlownAt.Add(-fuseSpan)
	rows, err := r.queries.DisabledByClass(ctx, r.pool, db.DisabledByClassParams{Class: fuse.Class, Since: &since, Until: fuse.ResetAt})
	if err != nil {
		return fmt.Errorf("read the webhooks that %s disabled: %w", fuse.Class, err)
	}
	var failed error // one webhook does not keep the others from it
	for _, w := range rows {
		if err := r.undo(ctx, w, fuse.Class); err != nil {
			failed = errors.Join(failed, fmt.Errorf("enable webhook %s again: %w", w.ID, err))
			continue
		}
		r.log.Warn("webhook enabled again: its failures look like a fault of our own network", "webhook", w.ID, "bot", w.BotID, "class", fuse.Class)
	}
	return failed
}

func (r *Recorder) undo(ctx context.Context, w db.DisabledByClassRow, class string) error {
	return audit.Tx(ctx, r.pool, r.log, func(tx pgx.Tx, note func(audit.Change) error) error {
		stored, err := lockAndRead(ctx, tx, w.ID)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := r.queries.UndoDisabling(ctx, tx, w.ID)
		if err != nil || n == 0 { // its owner, or another process, has enabled it meanwhile
			return err
		}
		if err := note(enabledAgain(w.ID, w.BotID, audit.Fields{"fuse": class})); err != nil {
			return err
		}
		if stored.Suspended { // it gets nothing yet
			return nil
		}
		span, _, err := RecoverySpan(ctx, tx, stored, time.Time{})
		if err != nil {
			return err
		}
		_, err = beginRecovery(ctx, tx, note, w.BotID, span)
		return err
	})
}

// enabledAgain is the change by which a webhook that failures disabled is enabled again, and what for.
func enabledAgain(webhookID uuid.UUID, botID string, after audit.Fields) audit.Change {
	after["isActive"] = true
	return audit.Change{Action: audit.WebhookEnabled, BotID: botID, Subject: webhookID.String(), Before: audit.Fields{"isActive": false}, After: after}
}
