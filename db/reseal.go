package db

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
)

// resealPage is how many webhooks or bots are read at once to be sealed again.
const resealPage = 100

// Reseal seals the URLs, secrets, headers and keys that an older key has sealed with the newest, those of webhooks and the notify URLs and
// secrets of bots, and forgets secrets and keys whose overlap is over. It returns how many webhooks and bots it changed. What is
// replaced meanwhile is left alone. The error is an ErrDoesNotOpen where no key opens some, which are left as they are.
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
		return changed, fmt.Errorf("%w the URLs and secrets of %d webhooks and the notify URLs and secrets of %d bots", ErrDoesNotOpen, stuckWebhooks, stuckBots)
	case stuckWebhooks > 0:
		return changed, fmt.Errorf("%w the URLs and secrets of %d webhooks", ErrDoesNotOpen, stuckWebhooks)
	}
	return changed, nil
}

func resealWebhooks(ctx context.Context, pool *pgxpool.Pool, keyset *Keyset) (changed, stuck int, err error) {
	q := New()
	for after := uuid.Nil; ; {
		page, err := q.ListSealedOtherwise(ctx, pool, ListSealedOtherwiseParams{After: after, KeyPrefix: keyset.prefix, PageSize: resealPage})
		if err != nil {
			return changed, stuck, fmt.Errorf("look for webhooks to seal again: %w", err)
		}
		for _, w := range page {
			after = w.ID
			anew, err := keyset.resealWebhook(w)
			if err != nil {
				stuck++
				continue
			}
			n, err := q.Reseal(ctx, pool, anew)
			if err != nil {
				return changed, stuck, fmt.Errorf("store the URL and secrets of webhook %s, sealed again: %w", w.ID, err)
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
			return changed, stuck, fmt.Errorf("look for bots to seal again: %w", err)
		}
		for _, b := range page {
			after = b.ID
			url, urlErr := keyset.reseal(b.NotifyURL, notifyURLContext(b.ID))
			secret, secretErr := keyset.reseal(b.NotifySecret, notifyContext(b.ID))
			if errors.Join(urlErr, secretErr) != nil {
				stuck++
				continue
			}
			n, err := q.ResealNotify(ctx, pool, ResealNotifyParams{
				ID: b.ID, NotifyURL: url, NotifySecret: secret, OldNotifyURL: b.NotifyURL, OldNotifySecret: b.NotifySecret,
			})
			if err != nil {
				return changed, stuck, fmt.Errorf("store the notify URL and secret of bot %s, sealed again: %w", b.ID, err)
			}
			changed += int(n)
		}
		if len(page) < resealPage {
			return changed, stuck, nil
		}
	}
}

// SealedOtherwise reports whether a URL or a secret is sealed with another key than the newest.
func SealedOtherwise(ctx context.Context, pool *pgxpool.Pool, keyset *Keyset) (bool, error) {
	q := New()
	webhooks, err := q.ListSealedOtherwise(ctx, pool, ListSealedOtherwiseParams{KeyPrefix: keyset.prefix, PageSize: 1})
	if err != nil || len(webhooks) > 0 {
		return len(webhooks) > 0, err
	}
	bots, err := q.ListNotifySealedOtherwise(ctx, pool, ListNotifySealedOtherwiseParams{KeyPrefix: keyset.prefix, PageSize: 1})
	return len(bots) > 0, err
}

// Unopened tries the keyset on what the first webhooks and bots have sealed, of each at most as many as most. It returns what does
// not open, such as "the URL of webhook …", and how many webhooks and bots it looked at.
func Unopened(ctx context.Context, pool *pgxpool.Pool, keyset *Keyset, most int32) (unopened []string, looked int, err error) {
	try := func(_ any, err error) {
		if unreadable := new(UnreadableError); errors.As(err, &unreadable) {
			unopened = append(unopened, unreadable.What)
		}
	}
	webhooks, err := New().ListSealedOtherwise(ctx, pool, ListSealedOtherwiseParams{KeyPrefix: []byte{}, PageSize: most})
	for _, w := range webhooks {
		try(keyset.OpenURL(w.ID, w.URL))
		for _, sealed := range [][]byte{w.Secret, w.PreviousSecret} {
			if sealed != nil {
				try(keyset.Open(w.ID, sealed))
			}
		}
		try(keyset.OpenExtras(w.ID, w.Extras))
	}
	if err != nil {
		return unopened, len(webhooks), err
	}
	bots, err := New().ListNotifySealedOtherwise(ctx, pool, ListNotifySealedOtherwiseParams{KeyPrefix: []byte{}, PageSize: most})
	for _, b := range bots {
		try(keyset.OpenNotifyURL(b.ID, b.NotifyURL))
		try(keyset.OpenNotify(b.ID, b.NotifySecret))
	}
	return unopened, len(webhooks) + len(bots), err
}

func (k *Keyset) resealWebhook(w ListSealedOtherwiseRow) (ResealParams, error) {
	anew := ResealParams{ID: w.ID, OldURL: w.URL, OldSecret: w.Secret, OldPreviousSecret: w.PreviousSecret, OldExtras: w.Extras, KeyIsOver: w.KeyIsOver}
	var urlErr, secretErr, previousErr, extrasErr error
	anew.URL, urlErr = k.reseal(w.URL, urlContext(w.ID))
	anew.Secret, secretErr = k.reseal(w.Secret, w.ID[:])
	anew.Extras, extrasErr = k.resealExtras(w)
	if !w.IsOver {
		anew.PreviousSecret, previousErr = k.reseal(w.PreviousSecret, w.ID[:])
	}
	return anew, errors.Join(urlErr, secretErr, previousErr, extrasErr)
}

// resealExtras forgets a key whose overlap is over.
func (k *Keyset) resealExtras(w ListSealedOtherwiseRow) ([]byte, error) {
	if !w.KeyIsOver {
		return k.reseal(w.Extras, extrasContext(w.ID))
	}
	x, err := k.OpenExtras(w.ID, w.Extras)
	if err != nil {
		return nil, err
	}
	x.PreviousKey, x.PreviousKeyUntil = nil, time.Time{}
	return k.SealExtras(w.ID, x)
}

func (k *Keyset) reseal(sealed, context []byte) ([]byte, error) {
	if sealed == nil || bytes.HasPrefix(sealed, k.prefix) {
		return sealed, nil
	}
	text, err := k.aead.Decrypt(sealed, context)
	if err != nil {
		return nil, err
	}
	return k.seal(string(text), context)
}
