package db

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Keyset seals webhook secrets at rest: a Tink AEAD keyset, whose primary key seals and all of whose keys open.
type Keyset struct{ aead tink.AEAD }

// NewKeyset makes a keyset of one fresh AES-256-GCM key, in the form that MATHUB_KEYSET takes: the base64 of
// Tink's JSON. Whoever has it can read the secrets; it is printed once and kept nowhere by this program.
func NewKeyset() (string, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return "", err
	}
	var b strings.Builder
	enc := base64.NewEncoder(base64.StdEncoding, &b)
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(enc)); err != nil {
		return "", err
	}
	if err := enc.Close(); err != nil {
		return "", err
	}
	return b.String(), nil
}

var errKeyset = errors.New("the keyset is not one that `mathub-webhooks keyset new` printed")

// ParseKeyset reads what NewKeyset made. Its error never holds a part of the keyset.
func ParseKeyset(s string) (*Keyset, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil || len(raw) == 0 {
		return nil, errKeyset
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(strings.NewReader(string(raw))))
	if err != nil {
		return nil, errKeyset
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, errKeyset
	}
	return &Keyset{aead: primitive}, nil
}

// Seal encrypts secret and binds it to the webhook, so that a sealed secret copied to another row does not open.
func (k *Keyset) Seal(webhookID uuid.UUID, secret string) ([]byte, error) {
	sealed, err := k.aead.Encrypt([]byte(secret), webhookID[:])
	if err != nil {
		return nil, fmt.Errorf("seal secret: %w", err)
	}
	return sealed, nil
}

// Open decrypts what Seal made for the same webhook. It fails when no key of the keyset fits.
func (k *Keyset) Open(webhookID uuid.UUID, sealed []byte) (string, error) {
	secret, err := k.aead.Decrypt(sealed, webhookID[:])
	if err != nil {
		return "", fmt.Errorf("the secret of webhook %s does not open with MATHUB_KEYSET", webhookID)
	}
	return string(secret), nil
}
