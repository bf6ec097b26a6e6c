package bots

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/problem"
)

// A key is bot_ and 43 characters of base64url: 28 random bytes and their CRC-32. The checksum rejects a mistyped or invented
// key without a lookup, and lets secret scanners recognize a leaked one.
const (
	keyPrefix      = "bot_"
	keyRandomBytes = 28
)

// newKey makes a key.
func newKey() string {
	key := make([]byte, keyRandomBytes, keyRandomBytes+crc32.Size)
	_, _ = rand.Read(key) // it does not fail
	return keyPrefix + base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(key, crc32.ChecksumIEEE(key)))
}

// IsKey says whether a key may be one of ours, by its form.
func IsKey(s string) bool {
	text, ok := strings.CutPrefix(s, keyPrefix)
	if !ok || len(text) != base64.RawURLEncoding.EncodedLen(keyRandomBytes+crc32.Size) {
		return false
	}
	key, err := base64.RawURLEncoding.Strict().DecodeString(text) // which skips line breaks
	return err == nil && len(key) == keyRandomBytes+crc32.Size && crc32.ChecksumIEEE(key[:keyRandomBytes]) == binary.BigEndian.Uint32(key[keyRandomBytes:])
}

// HashKey is what is stored of a key: its SHA-256, 32 bytes.
func HashKey(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}

// ErrWrongKey is the answer to a key that is none, or no more.
var ErrWrongKey = &problem.Error{Kind: problem.Unauthorized, Detail: "The key is not valid."}

// ByKey finds a key by its hash. The time that it takes tells nothing about any key.
func (s *Service) ByKey(ctx context.Context, hash []byte) (db.BotByKeyRow, error) {
	key, err := db.New().BotByKey(ctx, s.Pool, hash)
	if errors.Is(err, pgx.ErrNoRows) {
		return key, ErrWrongKey
	}
	return key, err
}

// CheckKey returns ErrWrongKey for a key that was revoked, and problem.Suspended where its bot was suspended.
func (s *Service) CheckKey(ctx context.Context, keyID uuid.UUID) error {
	bot, err := db.New().BotOfKey(ctx, s.Pool, keyID)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrWrongKey
	case err == nil && !bot.IsActive:
		return problem.Suspended(bot.SuspendedReason)
	}
	return err
}

// SecretHashes are the hashes of all keys of all bots, and of the codes of their links and sessions.
func (s *Service) SecretHashes(ctx context.Context) ([][]byte, error) {
	return db.New().SecretHashes(ctx, s.Pool)
}
