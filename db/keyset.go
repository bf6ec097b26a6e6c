package db

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Keyset seals the URLs, secrets, headers and keys of webhooks and notices at rest: a Tink AEAD keyset, whose primary key seals and all of whose keys open.
type Keyset struct {
	aead tink.AEAD
	// prefix begins all that the primary key seals: Tink's version and the key's id.
	prefix []byte
}

// NewKeyset makes a keyset of one fresh AES-256-GCM key, in the form that MATHUB_KEYSET takes: the base64 of
// Tink's JSON. Whoever has it can read the secrets; it is printed once and kept nowhere by this program.
func NewKeyset() (string, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return "", err
	}
	return writeKeyset(handle)
}

// RotateKeyset returns the keyset with a fresh key, which seals from then on; all others still open. With later, the
// fresh key only opens until the keyset is rotated again, which makes it the one that seals: so processes that are
// replaced one after the other can read what each other seals.
func RotateKeyset(s string, later bool) (string, error) {
	handle, err := readKeyset(s)
	if err != nil {
		return "", err
	}
	primary, err := handle.Primary()
	if err != nil {
		return "", errKeyset
	}
	newest, err := handle.Entry(handle.Len() - 1)
	if err != nil {
		return "", errKeyset
	}
	waits := newest.KeyID() != primary.KeyID()
	if waits && later {
		return "", errors.New("the keyset already has a new key that only decrypts; when every process has this keyset, rotate it without --later")
	}
	manager := keyset.NewManagerFromHandle(handle)
	id := newest.KeyID()
	if !waits {
		if id, err = manager.Add(aead.AES256GCMKeyTemplate()); err != nil {
			return "", err
		}
	}
	if !later {
		if err = manager.SetPrimary(id); err != nil {
			return "", err
		}
	}
	if handle, err = manager.Handle(); err != nil {
		return "", err
	}
	return writeKeyset(handle)
}

// PruneKeyset returns the keyset with the key that seals alone.
func PruneKeyset(s string) (string, error) {
	handle, err := readKeyset(s)
	if err != nil {
		return "", err
	}
	primary, err := handle.Primary()
	if err != nil {
		return "", errKeyset
	}
	manager := keyset.NewManagerFromHandle(handle)
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return "", err
		}
		if entry.KeyID() != primary.KeyID() {
			if err := manager.Delete(entry.KeyID()); err != nil {
				return "", err
			}
		}
	}
	if handle, err = manager.Handle(); err != nil {
		return "", err
	}
	return writeKeyset(handle)
}

func writeKeyset(handle *keyset.Handle) (string, error) {
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

var errKeyset = errors.New("not a keyset of `mathub-webhooks keyset new`")

func readKeyset(s string) (*keyset.Handle, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil || len(raw) == 0 {
		return nil, errKeyset
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(strings.NewReader(string(raw))))
	if err != nil {
		return nil, errKeyset
	}
	return handle, nil
}

// ParseKeyset reads what NewKeyset made. Its error never holds a part of the keyset.
func ParseKeyset(s string) (*Keyset, error) {
	handle, err := readKeyset(s)
	if err != nil {
		return nil, err
	}
	primary, err := handle.Primary()
	if err != nil {
		return nil, errKeyset
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, errKeyset
	}
	// Tink's wire format: a version, 1, and the key's id.
	return &Keyset{aead: primitive, prefix: binary.BigEndian.AppendUint32([]byte{1}, primary.KeyID())}, nil
}

// ErrDoesNotOpen is in the errors of what was sealed by a key that the keyset does not have.
var ErrDoesNotOpen = errors.New("MATHUB_KEYSET cannot decrypt")

// UnreadableError is an ErrDoesNotOpen that names what does not open, such as "the URL of webhook …".
type UnreadableError struct{ What string }

func (e *UnreadableError) Error() string { return ErrDoesNotOpen.Error() + " " + e.What }

// Unwrap returns ErrDoesNotOpen.
func (*UnreadableError) Unwrap() error { return ErrDoesNotOpen }

// Seal encrypts secret and binds it to the webhook, so that a sealed secret copied to another row does not open.
func (k *Keyset) Seal(webhookID uuid.UUID, secret string) ([]byte, error) {
	return k.seal(secret, webhookID[:])
}

// Open decrypts what Seal made for the same webhook. It fails when no key of the keyset fits.
func (k *Keyset) Open(webhookID uuid.UUID, sealed []byte) (string, error) {
	secret, err := k.aead.Decrypt(sealed, webhookID[:])
	if err != nil {
		return "", &UnreadableError{"the secret of webhook " + webhookID.String()}
	}
	return string(secret), nil
}

// SealURL is Seal for a webhook's URL.
func (k *Keyset) SealURL(webhookID uuid.UUID, url string) ([]byte, error) {
	return k.seal(url, urlContext(webhookID))
}

// OpenURL is Open for a webhook's URL.
func (k *Keyset) OpenURL(webhookID uuid.UUID, sealed []byte) (string, error) {
	url, err := k.aead.Decrypt(sealed, urlContext(webhookID))
	if err != nil {
		return "", &UnreadableError{"the URL of webhook " + webhookID.String()}
	}
	return string(url), nil
}

// urlContext and extrasContext are others than a secret's, so that none opens as another.
func urlContext(webhookID uuid.UUID) []byte { return append([]byte("url "), webhookID[:]...) }

func extrasContext(webhookID uuid.UUID) []byte { return append([]byte("extras "), webhookID[:]...) }

// SealNotify is Seal for a bot's notify secret.
func (k *Keyset) SealNotify(botID, secret string) ([]byte, error) {
	return k.seal(secret, notifyContext(botID))
}

// OpenNotify is Open for a bot's notify secret.
func (k *Keyset) OpenNotify(botID string, sealed []byte) (string, error) {
	secret, err := k.aead.Decrypt(sealed, notifyContext(botID))
	if err != nil {
		return "", &UnreadableError{"the notify secret of bot " + botID}
	}
	return string(secret), nil
}

// SealNotifyURL is Seal for a bot's notify URL.
func (k *Keyset) SealNotifyURL(botID, url string) ([]byte, error) {
	return k.seal(url, notifyURLContext(botID))
}

// OpenNotifyURL is Open for a bot's notify URL.
func (k *Keyset) OpenNotifyURL(botID string, sealed []byte) (string, error) {
	url, err := k.aead.Decrypt(sealed, notifyURLContext(botID))
	if err != nil {
		return "", &UnreadableError{"the notify URL of bot " + botID}
	}
	return string(url), nil
}

// notifyContext and notifyURLContext are longer than a webhook's, so that none opens as another.
func notifyContext(botID string) []byte { return []byte("notify secret of bot " + botID) }

func notifyURLContext(botID string) []byte { return []byte("notify URL of bot " + botID) }

// SealPayload encrypts what is handed to Temporal.
func (k *Keyset) SealPayload(plain []byte) ([]byte, error) {
	return k.seal(string(plain), payloadContext)
}

// OpenPayload decrypts what SealPayload made.
func (k *Keyset) OpenPayload(sealed []byte) ([]byte, error) {
	plain, err := k.aead.Decrypt(sealed, payloadContext)
	if err != nil {
		return nil, errors.New("MATHUB_CODEC_KEYSET cannot decrypt a payload: it must hold every key that sealed one")
	}
	return plain, nil
}

// payloadContext is another than any other.
var payloadContext = []byte("Temporal payload of Mathub Webhooks")

func (k *Keyset) seal(text string, context []byte) ([]byte, error) {
	sealed, err := k.aead.Encrypt([]byte(text), context)
	if err != nil {
		return nil, fmt.Errorf("seal with the keyset: %w", err)
	}
	return sealed, nil
}
