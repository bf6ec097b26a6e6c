package db

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Extras are what few webhooks have and nobody may read. They are sealed together, so that the others pay for one column.
type Extras struct {
	// Headers are the webhook's own, values by name.
	Headers map[string]string `json:"headers,omitempty"`
	// Key signs beside the secret.
	Key ed25519.PrivateKey `json:"key,omitempty"`
	// PreviousKey signs too until PreviousKeyUntil.
	PreviousKey      ed25519.PrivateKey `json:"previousKey,omitempty"`
	PreviousKeyUntil time.Time          `json:"previousKeyUntil,omitzero"`
}

func (x Extras) none() bool { return len(x.Headers) == 0 && x.Key == nil && x.PreviousKey == nil }

// Keys are those that sign at a time, the present one first.
func (x Extras) Keys(at time.Time) (keys []ed25519.PrivateKey) {
	if x.Key != nil {
		keys = append(keys, x.Key)
	}
	if x.PreviousKey != nil && at.Before(x.PreviousKeyUntil) {
		keys = append(keys, x.PreviousKey)
	}
	return keys
}

// SealExtras is Seal for a webhook's extras; nil for none.
func (k *Keyset) SealExtras(webhookID uuid.UUID, x Extras) ([]byte, error) {
	if x.none() {
		return nil, nil
	}
	text, err := json.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("seal the headers and keys of webhook %s: %w", webhookID, err)
	}
	return k.seal(string(text), extrasContext(webhookID))
}

// OpenExtras is Open for a webhook's extras: none where nothing is sealed.
func (k *Keyset) OpenExtras(webhookID uuid.UUID, sealed []byte) (x Extras, err error) {
	if sealed == nil {
		return x, nil
	}
	text, err := k.aead.Decrypt(sealed, extrasContext(webhookID))
	if err == nil {
		err = json.Unmarshal(text, &x)
	}
	if err != nil {
		return Extras{}, &UnreadableError{"the headers and keys of webhook " + webhookID.String()}
	}
	return x, nil
}

// OpenAll tries to decrypt all that a delivery to the webhook needs. The error names what does not open.
func (k *Keyset) OpenAll(w Webhook) error {
	_, err := k.OpenURL(w.ID, w.URL)
	for _, sealed := range [][]byte{w.Secret, w.PreviousSecret} {
		if err == nil && sealed != nil {
			_, err = k.Open(w.ID, sealed)
		}
	}
	if err == nil {
		_, err = k.OpenExtras(w.ID, w.Extras)
	}
	return err
}
