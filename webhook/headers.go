package webhook

import (
	"crypto/ed25519"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Delivery is what the headers of one delivery attempt are made of.
type Delivery struct {
	ID      uuid.UUID // the delivery's id, see DeliveryID
	EventID string    // the receiver's idempotency key, the same on every attempt
	Type    EventType
	At      time.Time // of this attempt, not of the event
	Body    []byte    // as sent
	// Secrets are the webhook's signing secrets, the current one first; further ones, in a rotation's overlap,
	// sign webhook-signature only. Empty for an unsigned webhook. Empty strings are left out.
	Secrets []string
	// Keys sign webhook-signature too.
	Keys    []ed25519.PrivateKey
	Custom  CustomHeaders // of the webhook itself, checked
	Version string        // of the product, for User-Agent
}

// Headers returns every header of a delivery but those of HTTP itself. Names are in Go's canonical form; HTTP does
// not tell cases apart.
func Headers(d Delivery) http.Header {
	// One backing array for the values: this runs once a delivery.
	values := make([]string, 8)
	h := make(http.Header, 8+len(d.Custom))
	set := func(i int, name, value string) {
		values[i] = value
		h[name] = values[i : i+1 : i+1]
	}
	set(0, "Content-Type", "application/json")
	set(1, "User-Agent", "Mathub-Webhooks/"+d.Version)
	set(2, "X-Mathub-Event", string(d.Type))
	set(3, "X-Mathub-Delivery", d.ID.String())
	set(4, "Webhook-Id", d.EventID)
	set(5, "Webhook-Timestamp", strconv.FormatInt(d.At.Unix(), 10))

	var standard strings.Builder
	for _, secret := range d.Secrets {
		if secret == "" {
			continue
		}
		if standard.Len() == 0 {
			set(6, "X-Mathub-Signature", Sign(secret, d.Body))
		} else {
			standard.WriteByte(' ')
		}
		standard.WriteString(SignStandard(secret, d.EventID, d.At, d.Body))
	}
	for _, key := range d.Keys {
		if standard.Len() > 0 {
			standard.WriteByte(' ')
		}
		standard.WriteString(SignAsymmetric(key, d.EventID, d.At, d.Body))
	}
	if standard.Len() > 0 {
		set(7, "Webhook-Signature", standard.String())
	}
	for name, value := range d.Custom {
		h[name] = []string{value}
	}
	return h
}
