package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/google/uuid"
)

// VerifyEvent is the event that asks an endpoint whether it wants a webhook's deliveries. Only the endpoint learns the nonce,
// and the owner of the webhook, who cannot answer for it.
func VerifyEvent(webhookID uuid.UUID, botID, nonce string, at time.Time) Event {
	var data bytes.Buffer
	data.WriteByte('{')
	for i, m := range [][2]string{{"webhookId", webhookID.String()}, {"botId", botID}, {"nonce", nonce}} {
		if i > 0 {
			data.WriteByte(',')
		}
		writeMember(&data, m[0], m[1])
	}
	data.WriteByte('}')
	return Event{ID: NewID(), Type: Verify, Timestamp: FormatTime(at), Data: data.Bytes()}
}

// NonceOf is the nonce of a webhook.verify event, whose body is given; "" of any other event.
func NonceOf(body []byte) string {
	var e struct {
		Event EventType
		Data  struct{ Nonce string }
	}
	if json.Unmarshal(body, &e) != nil || e.Event != Verify {
		return ""
	}
	return e.Data.Nonce
}

// Agrees says whether an endpoint's answer to a webhook.verify event, whose body is given, is its nonce: as text, or as the
// member "nonce" of a JSON object. An endpoint that only sends back what it is sent does not agree: many do that for anyone.
func Agrees(verification, answer []byte) bool {
	asked := NonceOf(verification)
	if asked == "" {
		return false
	}
	text := strings.TrimSpace(strings.TrimPrefix(string(answer), "\uFEFF"))
	if strings.Trim(text, `"`) == asked {
		return true
	}
	var object struct {
		Nonce json.RawMessage `json:"nonce"`
	}
	var nonce string
	return json.Unmarshal([]byte(text), &object) == nil && json.Unmarshal(object.Nonce, &nonce) == nil && nonce == asked
}

// PartyOf is the receiving party of an endpoint URL that URLRules.Check has returned: the registered domain (example.com,
// example.co.uk, someone.github.io: https://publicsuffix.org) or the address, and the port, by default the scheme's. The
// owner of a domain can have any number of names below it lead to one host.
func PartyOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "http":
		port = "80"
	default:
		port = "443"
	}
	return net.JoinHostPort(registered(u.Hostname()), port)
}

// registered is the registered domain of a name; an address, and a name that is no domain, is itself.
func registered(host string) string {
	if strings.HasSuffix(host, ".localhost") {
		return "localhost"
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return host
	}
	if domain, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return domain
	}
	return host
}

// Verification says what is asked of endpoints. The zero value is VerificationOff.
type Verification string

// What can be asked of endpoints.
const (
	// VerificationOff asks an endpoint only where its bot wants to.
	VerificationOff Verification = "off"
	// VerificationOptional asks each new endpoint. One that has not agreed gets a limited rate of deliveries.
	VerificationOptional Verification = "optional"
	// VerificationRequire sends an endpoint that has not agreed nothing else.
	VerificationRequire Verification = "require"
)

// UnmarshalText reads one of the three.
func (v *Verification) UnmarshalText(text []byte) error {
	switch read := Verification(text); read {
	case VerificationOff, VerificationOptional, VerificationRequire:
		*v = read
		return nil
	}
	return fmt.Errorf("must be off, optional or require, not %q", text)
}

// AtOnce says whether an endpoint is asked when a webhook gets it.
func (v Verification) AtOnce() bool { return v == VerificationOptional || v == VerificationRequire }
