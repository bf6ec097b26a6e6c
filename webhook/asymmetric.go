package webhook

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"
)

const (
	asymmetricPrefix = "v1a,"
	publicKeyPrefix  = "whpk_"
)

// NewKey is a key pair of its own for one webhook.
func NewKey() (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key pair: %w", err)
	}
	return key, nil
}

// PublicKey is what verifies a key's signatures: whpk_ and the base64 of its 32 bytes (Standard Webhooks 1.0.0, "Secret serialization").
func PublicKey(key ed25519.PrivateKey) string {
	return publicKeyPrefix + base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
}

// SignAsymmetric is one entry of the webhook-signature header: "v1a," and the base64 of the Ed25519 signature of
// "<id>.<unix seconds>.<body>" (Standard Webhooks 1.0.0, "Signature scheme").
func SignAsymmetric(key ed25519.PrivateKey, id string, at time.Time, body []byte) string {
	signed := append(signedPrefix(id, at, len(body)), body...)
	return asymmetricPrefix + base64.StdEncoding.EncodeToString(ed25519.Sign(key, signed))
}
