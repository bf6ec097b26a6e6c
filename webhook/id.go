package webhook

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// NewID returns a new UUIDv7 in its usual text form: time-ordered, so that rows made together lie together.
func NewID() string {
	return uuid.Must(uuid.NewV7()).String() // crypto/rand does not fail
}

// ValidID reports whether s may be the id of an event or a bot: ^[A-Za-z0-9_-]{1,128}$. Such an id is safe as a
// header and as a workflow id, and holds no "." that would make Standard Webhooks' signed content ambiguous.
func ValidID(s string) bool {
	if len(s) == 0 || len(s) > MaxIDBytes {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// CanonicalID is an event's or a bot's id as it is stored: a UUID in lower case (RFC 9562 §4), any other as it stands.
func CanonicalID(id string) string {
	if len(id) != len(uuid.Nil.String()) || uuid.Validate(id) != nil {
		return id
	}
	return strings.ToLower(id)
}

const idMessage = "must be 1 to 128 of the characters A-Z a-z 0-9 _ -"

// attemptNamespace is a random UUID under which attempts' keys are derived (RFC 9562, section 6.5). It must never
// change: repeated recordings of one delivery are recognised by their id.
var attemptNamespace = uuid.MustParse("5b1d2f7e-9c44-4a0e-8f1b-62d7c0a9e3f4")

// DeliveryID is the id of the delivery that an attempt makes, always the same for the same attempt. It is a UUIDv8 (RFC 9562,
// section 5.8): the first 32 bits are the second in which Postgres accepted the event, the others the attempt's key. So what is
// recorded together lies together in the index of ids, and an id leads to its partition.
func DeliveryID(acceptedAt time.Time, attemptKey uuid.UUID) uuid.UUID {
	id := attemptKey
	binary.BigEndian.PutUint32(id[:4], uint32(min(max(acceptedAt.Unix(), 0), math.MaxUint32)))
	id[6] = id[6]&0x0f | 0x80
	return id
}

// AttemptKey names one attempt (1, 2, …) at delivering an event to a webhook, always the same for the same three. It is a UUIDv5
// of the name "<event id>/<webhook id>/<attempt>".
func AttemptKey(eventID string, webhookID uuid.UUID, attempt int) uuid.UUID {
	name := make([]byte, 0, MaxIDBytes+1+36+1+20)
	name = append(name, eventID...)
	name = append(name, '/')
	name = append(name, webhookID.String()...)
	name = append(name, '/')
	name = strconv.AppendInt(name, int64(attempt), 10)
	return uuid.NewSHA1(attemptNamespace, name)
}
