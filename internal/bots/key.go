package bots

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strings"
)

// A key is bot_ and 43 characters of base64url: 28 random bytes and their CRC-32, by which a mistyped or made-up key is
// known without a look-up, and one that leaked is found by whoever scans for it.
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
	key, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && crc32.ChecksumIEEE(key[:keyRandomBytes]) == binary.BigEndian.Uint32(key[keyRandomBytes:])
}

// HashKey is what is stored of a key: its SHA-256, 32 bytes.
func HashKey(key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return sum[:]
}
