package subscriptions

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// DefaultKeyOverlap is how long the previous key also signs, by default.
const DefaultKeyOverlap = 24 * time.Hour

// RotateKey gives a webhook a key pair, or another: the one before signs too for the overlap, of at most MaxSecretOverlap. While
// one does so already, only an overlap of 0 ends it: a call that is repeated must not take away the key that receivers have.
func (s *Service) RotateKey(ctx context.Context, before db.Webhook, overlap time.Duration) (db.Webhook, error) {
	if err := webhook.CheckDuration("overlap", overlap, 0, MaxSecretOverlap); err != nil {
		return before, err
	}
	w, _, err := s.Update(ctx, before, Input{key: newKey, keyOverlap: overlap})
	return w, err
}

// RemoveKey ends the signatures by a webhook's key pair. Without one it changes nothing.
func (s *Service) RemoveKey(ctx context.Context, before db.Webhook) (db.Webhook, error) {
	w, _, err := s.Update(ctx, before, Input{key: removeKey})
	return w, err
}

// changeExtras adds to a change what becomes of the webhook's own headers and of its key pair.
func (s *Service) changeExtras(change *db.UpdateWebhookParams, w db.Webhook, in Input) error {
	if len(in.Headers) == 0 && in.key == keepKey {
		return nil
	}
	before, unreadable := s.Keyset.OpenExtras(w.ID, w.Extras)
	if unreadable != nil && !saysAll(in, w) {
		return unreadable // and before is empty otherwise: what no key opens is gone
	}
	maps.DeleteFunc(in.Headers, func(name string, value *string) bool { // which the webhook has already
		present, has := before.Headers[name]
		return has && value != nil && *value == present
	})
	headers, err := webhook.CustomHeaders(before.Headers).With(in.Headers)
	if err != nil {
		return err
	}
	after := before
	after.Headers = headers
	if err := changeKey(&after, in); err != nil {
		return err
	}
	if unreadable == nil && maps.Equal(before.Headers, headers) && after.Key.Equal(before.Key) {
		return nil
	}
	change.SetExtras, change.HeaderNames = true, headers.Names()
	change.PublicKey, change.PreviousPublicKey = publicKey(after.Key), publicKey(after.PreviousKey)
	if after.PreviousKey != nil {
		change.PreviousKeyUntil = &after.PreviousKeyUntil
	}
	change.Extras, err = s.Keyset.SealExtras(w.ID, after)
	return err
}

// saysAll reports whether a change says of each of the webhook's own headers what becomes of it.
func saysAll(in Input, w db.Webhook) bool {
	return !slices.ContainsFunc(w.HeaderNames, func(name string) bool {
		_, said := in.Headers[name]
		return !said
	})
}

// changeKey makes, replaces or removes the key pair, as is asked.
func changeKey(x *db.Extras, in Input) error {
	switch in.key {
	case newKey:
		if in.keyOverlap > 0 && len(x.Keys(in.now)) > 1 {
			return &problem.Error{Kind: problem.Conflict, Detail: fmt.Sprintf(
				"The key before signs until %s. Rotate then, or with an overlap of 0s, which ends it at once.", webhook.FormatTime(x.PreviousKeyUntil))}
		}
		made, err := webhook.NewKey()
		if err != nil {
			return err
		}
		replaced := x.Key
		x.Key, x.PreviousKey, x.PreviousKeyUntil = made, nil, time.Time{}
		if replaced != nil && in.keyOverlap > 0 {
			x.PreviousKey, x.PreviousKeyUntil = replaced, in.now.Add(in.keyOverlap)
		}
	case removeKey:
		x.Key, x.PreviousKey, x.PreviousKeyUntil = nil, nil, time.Time{}
	case keepKey:
	}
	return nil
}

func publicKey(key ed25519.PrivateKey) *string {
	if key == nil {
		return nil
	}
	text := webhook.PublicKey(key)
	return &text
}

// PublicKeys are those whose signatures a webhook's deliveries have now, the present one first.
func PublicKeys(w db.Webhook) []string {
	keys := []string{}
	if w.PublicKey != nil {
		keys = append(keys, *w.PublicKey)
	}
	if w.PreviousPublicKey != nil && w.PreviousKeyUntil.After(time.Now()) {
		keys = append(keys, *w.PreviousPublicKey)
	}
	return keys
}
