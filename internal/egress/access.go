package egress

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/mathub/webhooks/webhook"
)

// AccessState is what is known of a part of outbound access.
type AccessState string

// The states of a part of outbound access.
const (
	AccessOK      AccessState = "ok"
	AccessFailed  AccessState = "failed"
	AccessUnknown AccessState = "unknown" // nobody has answered, and nobody was asked
)

// Access is what is known of outbound access.
type Access struct {
	// DNS is about looking up names, Network about connecting to public addresses.
	DNS, Network AccessState
	// Cause says what fails, such as "dns: timeout"; it is empty where nothing does.
	Cause string
	// CheckedAt is when the newest of this was found out; zero if never.
	CheckedAt time.Time
}

// ParseCheckHosts reads Options.CheckHosts. What is neither a name nor an address is refused: Go's resolver says "no such host" of
// it without asking anybody, which would show that DNS works when it does not.
func ParseCheckHosts(texts []string) ([]string, error) {
	hosts := make([]string, len(texts))
	for i, text := range texts {
		host, ok := webhook.CanonicalHost(text)
		if !ok || len(host) > maxWitnessName {
			return nil, fmt.Errorf("%q is no host; must be names or IP addresses, without a scheme or a port, such as example.com,iana.org", text)
		}
		hosts[i] = host
	}
	return hosts, nil
}

// OutboundAccess returns what is known of outbound access. What is unknown or failed is checked again, for up to 2 s; when
// ctx ends before that, the check goes on, and its result is known to the next call. Nobody is asked about what worked
// last.
func (c *Client) OutboundAccess(ctx context.Context) (a Access) {
	parts := []part{dnsPart, c.outbound.towards(netip.AddrPort{})}
	for _, p := range []part{placePart, namePart, dns6Part, dnsPart} {
		if state, _, _ := c.outbound.known(p).state(); state == AccessFailed {
			parts[0] = p
		}
	}
	var checks []<-chan singleflight.Result
	for _, p := range parts {
		if state, at, _ := c.outbound.known(p).state(); state != AccessOK && time.Since(at) > accessFresh {
			checks = append(checks, c.outbound.check(p, ""))
		}
	}
	for _, done := range checks {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
	var causes []string
	for i, state := range []*AccessState{&a.DNS, &a.Network} {
		s, at, cause := c.outbound.known(parts[i]).state()
		*state = s
		if at.After(a.CheckedAt) {
			a.CheckedAt = at
		}
		if cause != "" && !slices.Contains(causes, cause) {
			causes = append(causes, cause)
		}
	}
	a.Cause = strings.Join(causes, ", ")
	return a
}
