package db

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// resealPage is how many webhooks or bots are read at once to be sealed anew.
const resealPage = 100

// ErrDoesNotOpen is in an error of Reseal when secrets were left as they are, since no key of the keyset opens them.
var ErrDoesNotOpen = errors.New("do not open with MATHUB_KEYSET")

// Reseal seals the secrets that an older key has sealed with the newest, those of webhooks and the notify secrets of
// bots, and forgets those whose overlap is over. It returns how many webhooks and bots it changed. A secret that is
// replaced meanwhile is left alone.
func Reseal(ctx context.Context, pool *pgxpool.Pool, keyset *Keyset) (changed int, err error) {
	webhooks, stuckWebhooks, err := resealWebhooks(ctx, pool, keyset)
	if err != nil {
		return webhooks, err
	}
	bots, stuckBots, err := resealBots(ctx, pool, keyset)
	changed = webhooks + bots
	switch {
	case err != nil:
		return changed, err
	case stuckBots > 0:
		return changed, fmt.Errorf("the secrets of %d webhooks and the notify secrets of %d bots %w", stuckWebhooks, stuckBots, ErrDoesNotOpen)
	case stuckWebhooks > 0:
		return changed, fmt.Errorf("the secrets of %d webhooks %w", stuckWebhooks, ErrDoesNotOpen)
	}
	return changed, nil
}

func resealWebhooks(ctx context.Context, pool *pgxpool.Pool, keyset *Keyset) (changed, stuck int, err error) {
	q := New()
	for after := uuid.Nil; ; {
		page, err := q.ListSealedOtherwise(ctx, pool, ListSealedOtherwiseParams{After: after, KeyPrefix: keyset.prefix, PageSize: resealPage})
		if err != nil {
			return changed, stuck, fmt.Errorf("look for secrets to seal anew: %w", err)
		}
		for _, w := range page {
			after = w.ID
			secret, err := keyset.reseal(w.ID, w.Secret)
			previous, previousErr := []byte(nil), error(nil)
			if !w.IsOver {
				previous, previousErr = keyset.reseal(w.ID, w.PreviousSecret)
			}
			if errors.Join(err, previousErr) != nil {
				stuck++
				continue
			}
			n, err := q.Reseal(ctx, pool, ResealParams{ID: w.ID, Secret: secret, PreviousSecret: previous, OldSecret: w.Secret, OldPreviousSecret: w.PreviousSecret})
			if err != nil {
				return changed, stuck, fmt.Errorf("store the secret of webhook %s, sealed anew: %w", w.ID, err)
			}
			changed += int(n)
		}
		if len(page) < resealPage {
			return changed, stuck, nil
		}
	}
}

func resealBots(ctx context.Context, pool *pgxpool.Pool, keyset *Keyset) (changed, stuck int, err error) {
	q := New()
	for after := ""; ; {
		page, err := q.ListNotifySealedOtherwise(ctx, pool, ListNotifySealedOtherwiseParams{After: after, KeyPrefix: keyset.prefix, PageSize: resealPage})
		if err != nil {
			return changed, stuck, fmt.Errorf("look for notify secrets to seal anew: %w", err)
		}
		for _, b := range page {
			after = b.ID
			secret, err := keyset.OpenNotify(b.ID, b.NotifySecret)
			if err != nil {
				stuck++
				continue
			}
			sealed, err := keyset.SealNotify(b.ID, secret)
			if err != nil {
				return changed, stuck, err
			}
			n, err := q.ResealNotify(ctx, pool, ResealNotifyParams{ID: b.ID, NotifySecret: sealed, OldNotifySecret: b.NotifySecret})
			if err != nil {
				return changed, stuck, fmt.Errorf("store the notify secret of bot %s, sealed anew: %w", b.ID, err)
			}
			changed += int(n)
		}
		if len(page) < resealPage {
			return changed, stuck, nil
		}
	}
}

// SealedOtherwise reports whether a secret is sealed with another key than the newest.
func SealedOtherwise(ctx context.Context, pool *pgxpool.Pool, keyset *Keyset) (bool, error) {
	q := New()
	webhooks, err := q.ListSealedOtherwise(ctx, pool, ListSealedOtherwiseParams{KeyPrefix: keyset.prefix, PageSize: 1})
	if err != nil || len(webhooks) > 0 {
		return len(webhooks) > 0, err
	}
	bots, err := q.ListNotifySealedOtherwise(ctx, pool, ListNotifySealedOtherwiseParams{KeyPrefix: keyset.prefix, PageSize: 1})
	return len(bots) > 0, err
}

// Unopened tries the keyset on the secrets of the first webhooks that have one, at most as many as most. It returns how
// many webhooks it looked at, and of how many a secret does not open.
func Unopened(ctx context.Context, pool *pgxpool.Pool, keyset *Keyset, most int32) (unopened, looked int, err error) {
	page, err := New().ListSealedOtherwise(ctx, pool, ListSealedOtherwiseParams{KeyPrefix: []byte{}, PageSize: most})
	for _, w := range page {
		for _, sealed := range [][]byte{w.Secret, w.PreviousSecret} {
			if sealed == nil {
				continue
			}
			if _, err := keyset.Open(w.ID, sealed); err != nil {
				unopened++
				break
			}
		}
	}
	return unopened, len(page), err
}

func (k *Keyset) reseal(webhookID uuid.UUID, sealed []byte) ([]byte, error) {
	if sealed == nil || bytes.HasPrefix(sealed, k.prefix) {
		return sealed, nil
	}
	secret, err := k.Open(webhookID, sealed)
	if err != nil {
		return nil, err
	}
	return k.Seal(webhookID, secret)
}
