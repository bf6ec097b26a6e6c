package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// versionPrefix begins a signature of the Standard Webhooks scheme; some tools show secrets with it.
const versionPrefix = "v1,"

// secretPrefix marks a Standard Webhooks secret: what follows is the key in base64.
const secretPrefix = "whsec_"

// Sign is the value of X-Mathub-Signature: lower-case hex of HMAC-SHA256 over the body, keyed with the secret's
// UTF-8 bytes as they stand, whatever form the secret has.
func Sign(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	var sum [sha256.Size]byte
	return hex.EncodeToString(mac.Sum(sum[:0]))
}

// SignStandard is one entry of the webhook-signature header: "v1," and the base64 of HMAC-SHA256 over
// "<id>.<unix seconds>.<body>" (Standard Webhooks 1.0.0, "Signature scheme"). A secret of the form whsec_<base64>
// keys it with the decoded bytes, any other with its UTF-8 bytes.
func SignStandard(secret, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, standardKey(secret))
	mac.Write(signedPrefix(id, at, 0))
	mac.Write(body)
	var sum [sha256.Size]byte
	return versionPrefix + base64.StdEncoding.EncodeToString(mac.Sum(sum[:0]))
}

// signedPrefix is what is signed before the body, with room for so many bytes more.
func signedPrefix(id string, at time.Time, more int) []byte {
	prefix := make([]byte, 0, MaxIDBytes+1+20+1+more)
	prefix = append(prefix, id...)
	prefix = append(prefix, '.')
	prefix = strconv.AppendInt(prefix, at.Unix(), 10)
	return append(prefix, '.')
}

// standardKey is the key of the Standard Webhooks signature. ValidateSecret keeps whsec_ secrets that do not decode
// from being stored; should one turn up, its UTF-8 bytes serve.
func standardKey(secret string) []byte {
	if key, ok := decodeSecret(secret); ok {
		return key
	}
	return []byte(secret)
}

// decodeSecret decodes a whsec_ secret: standard base64 with padding, of at least one byte.
func decodeSecret(secret string) ([]byte, bool) {
	encoded, ok := strings.CutPrefix(secret, secretPrefix)
	if !ok || strings.ContainsAny(encoded, "\r\n") { // Go's decoder skips line breaks, receivers' do not
		return nil, false
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	return key, err == nil && len(key) > 0
}

// ValidateSecret checks a signing secret: 1 to 256 bytes of UTF-8 without NUL, and without white space or invisible characters at
// either end, which copying out of a file or a page may add or drop. If it begins with whsec_, the rest must be padded standard base64, because
// libraries disagree on every other form. The error is an *InvalidError on the field "secret" and does not contain the secret.
func ValidateSecret(s string) error {
	switch {
	case s == "":
		return invalid("secret", "must not be empty; null removes it")
	case len(s) > MaxSecretBytes:
		return invalid("secret", "must have at most 256 bytes")
	case !utf8.ValidString(s):
		return invalid("secret", "must be valid UTF-8")
	case strings.ContainsRune(s, 0):
		return invalid("secret", "must not contain NUL")
	case strings.TrimFunc(s, unseen) != s:
		return invalid("secret", "must not begin or end with white space or an invisible character")
	case strings.Contains(s, publicKeyPrefix):
		return invalid("secret", "must not hold a public key: anyone could sign with it")
	case strings.HasPrefix(s, versionPrefix+secretPrefix):
		return invalid("secret", "must begin with whsec_, without the v1, before it")
	}
	if strings.HasPrefix(s, secretPrefix) {
		if _, ok := decodeSecret(s); !ok {
			return invalid("secret", "must have padded standard base64 after whsec_")
		}
	}
	return nil
}

// NewSecret is a secret of 32 random bytes, in the form of Standard Webhooks.
func NewSecret() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it does not fail
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}
