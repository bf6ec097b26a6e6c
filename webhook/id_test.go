package webhook_test

import (
	"crypto/sha1"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	last := ""
	for range 10_000 {
		id := webhook.NewID()
		parsed, err := uuid.Parse(id)
		require.NoError(t, err)
		require.Equal(t, uuid.Version(7), parsed.Version())
		require.Equal(t, parsed.String(), id)
		require.True(t, webhook.ValidID(id))
		require.False(t, seen[id])
		require.Greater(t, id, last, "ordered by time")
		seen[id], last = true, id
	}
}

func TestValidIDIsThePattern(t *testing.T) {
	pattern := regexp.MustCompile(`\A[A-Za-z0-9_-]{1,128}\z`)
	cases := []string{
		"", "a", "-", "_", "A-z_09", "a.b", "a b", "a\n", "\x00", "é", "a/b", "a:b", "\xff",
		strings.Repeat("x", 128), strings.Repeat("x", 129), webhook.NewID(),
	}
	for b := range 256 {
		cases = append(cases, "x"+string([]byte{byte(b)}))
	}
	for _, id := range cases {
		require.Equal(t, pattern.MatchString(id), webhook.ValidID(id), "%q", id)
	}
}

// TestDeliveryID: it says when the event was accepted, and is the attempt's for the rest.
func TestDeliveryID(t *testing.T) {
	key := webhook.AttemptKey("evt-1", uuid.Nil, 1)
	at := time.Date(2026, 11, 27, 23, 59, 59, 999_999_999, time.UTC)
	id := webhook.DeliveryID(at, key)
	require.Equal(t, fmt.Sprintf("%08x", at.Unix()), id.String()[:8])
	require.Equal(t, uuid.Version(8), id.Version())
	require.Equal(t, key.String()[9:14], id.String()[9:14])
	require.Equal(t, key.String()[15:], id.String()[15:])
	require.Equal(t, uuid.RFC4122, id.Variant())
	require.Equal(t, id, webhook.DeliveryID(at.Truncate(time.Second).In(time.FixedZone("", 3600)), key))
	require.NotEqual(t, id, webhook.DeliveryID(at.Add(time.Second), key))
	for _, beyond := range []time.Time{{}, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		require.Contains(t, []string{"00000000", "ffffffff"}, webhook.DeliveryID(beyond, key).String()[:8])
	}
}

func TestAttemptKey(t *testing.T) {
	hook := uuid.MustParse("0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71")

	// Recorded deliveries are recognised by it: it must stay what it is. Computed with Python's uuid.uuid5.
	id := webhook.AttemptKey("evt-1", hook, 1)
	require.Equal(t, "c033ef6d-e077-587a-b4f6-a05f60c875a2", id.String())
	require.Equal(t, id, webhook.AttemptKey("evt-1", hook, 1))

	// RFC 9562, section 5.5, done by hand.
	namespace := uuid.MustParse("5b1d2f7e-9c44-4a0e-8f1b-62d7c0a9e3f4")
	sum := sha1.Sum(append(namespace[:], "evt-1/0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71/1"...))
	byHand := uuid.UUID(sum[:16])
	byHand[6], byHand[8] = byHand[6]&0x0f|0x50, byHand[8]&0x3f|0x80
	require.Equal(t, byHand, id)

	seen := map[uuid.UUID]bool{}
	for _, event := range []string{"evt-1", "evt-11", "evt-1-1", "EVT-1", strings.Repeat("x", 128)} {
		for _, h := range []uuid.UUID{hook, uuid.Nil, uuid.Max} {
			for attempt := range 20 {
				id := webhook.AttemptKey(event, h, attempt)
				require.False(t, seen[id])
				seen[id] = true
			}
		}
	}
}
