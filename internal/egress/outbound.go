package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/webhook"
)

// DefaultCheckHosts are hosts that IANA runs for everybody, see Options.CheckHosts.
var DefaultCheckHosts = []string{"example.com", "iana.org"}

// ErrNoOutboundAccess is what Post returns when an attempt failed because our own resolver, network or proxy is down.
var ErrNoOutboundAccess = errors.New("egress: no outbound access")

const (
	// accessFresh is how long a finding is passed on to those who only want to know.
	accessFresh = time.Second
	// accessRest is the least time between two checks of a part. A failure waits so long for a finding that is newer than it.
	accessRest = 500 * time.Millisecond
	// accessTimeout bounds a check. With an attempt's 5 s and a rest it stays below the 8 s of the activity that makes the
	// attempt.
	accessTimeout = 2 * time.Second
	// accessGrace is how long after the start a failure is ours where nobody has answered yet and nobody can be asked.
	accessGrace = 10 * time.Minute
	// maxWitnesses is how many of those that answered are remembered, to be asked when another fails.
	maxWitnesses = 3
	// maxWitnessName leaves room for a label before a name. Go's resolver calls a name over 254 bytes "no such host"
	// without asking anybody.
	maxWitnessName = 200
)

// outbound tells a failing of the receiver from one of our own resolver or network: when a name or an address fails, it
// finds out whether others answer at that time.
//
//   - A name that does not resolve in time, or with a server failure, is the receiver's failing if any other name is
//     answered afterwards, else ours. Names that resolved lately are asked for, and the check hosts, each with a random label
//     before it: a resolver that has lost the internet still answers from its cache. "No such host" is an answer, and counts.
//     If the name's IPv4 addresses are answered for by then, its IPv6 addresses were not: others have to be answered for those, too.
//   - A name that does not exist is the receiver's failing, unless none of the check hosts and of the names that resolved lately exists
//     either: then it is the resolver that knows of nothing. Without a check host by name, nobody is asked.
//   - So is a name that leads to addresses that are not permitted, unless none of those leads to one that is: then it is the resolver that
//     leads astray, as a router's does that has lost the internet.
//   - An address that is unreachable, or does not accept a connection in time, or over a connection to which no answer
//     comes, is the receiver's failing if another host answers afterwards, or accepts or refuses a connection; else ours. One
//     that took a connection and did not answer is asked, too: it hangs if it takes another. Receivers speak for
//     addresses of their own scope only (public, private, loopback): one on this machine says nothing of the internet.
//     Check hosts speak for all, so that an only receiver that is switched off is found out.
//   - What began before the end of an outage was noticed is ours, and so is what began within an attempt's time after it: Go's
//     resolver has lookups of one name share an answer, also one that was asked for during the outage.
//   - Both speak for one address family only, if that has worked in this process. If not, the other family speaks: a
//     machine without IPv6 counts the failures of receivers that have nothing else.
//   - Through a proxy, its own faults are never the receiver's. One that says that it cannot reach an address, or may not,
//     is asked once more, and if it still does, others speak, as above. A connection that ends before the answer is whole may have been ended by
//     the proxy, so others speak there, too.
//   - Where nobody has ever answered and there are no check hosts to ask, a failure is ours for ten minutes after the
//     start, then the receiver's. Where somebody is asked and nobody answers, it is ours for as long as that lasts.
//
// All else that a receiver does (it refuses, resets, fails TLS, or answers) counts without a check. So a receiver on loopback, which needs no DNS and no network, counts as ever.
type outbound struct {
	hosts    []string
	resolver *net.Resolver
	policy   webhook.AddressPolicy
	connect  func(ctx context.Context, network, address string) (net.Conn, error)
	proxied  bool          // connect goes through a proxy
	timeout  time.Duration // of an attempt
	began    time.Time
	checks   singleflight.Group

	mu    sync.Mutex
	parts map[part]*finding
}

// part is what works or fails as one: DNS, or the network towards one scope and family.
type part struct{ scope, network string }

// dnsPart is about looking up IPv4 addresses, dns6Part about IPv6 addresses, namePart about finding names that exist, and placePart about
// names that lead to addresses that are permitted. Their witnesses are the same.
var (
	dnsPart, dns6Part   = part{scope: "dns", network: "ip4"}, part{scope: "dns", network: "ip6"}
	namePart, placePart = part{scope: "dns", network: "names"}, part{scope: "dns", network: "places"}
)

// finding is what is known of a part. outbound.mu guards it.
type finding struct {
	witnesses          []string // names or addresses that answered, the latest first
	workedAt, failedAt time.Time
	restoredAt         time.Time // when it was first found to work after it had failed
	checkedAt          time.Time // when the last check ended
	cause              string
}

func partOf(to netip.AddrPort) part {
	p, ip := part{scope: "private", network: "tcp4"}, to.Addr().Unmap()
	switch {
	case !to.IsValid(), (webhook.AddressPolicy{}).Permits(ip):
		p.scope = "public"
	case ip.IsLoopback():
		p.scope = "loopback"
	}
	if ip.Is6() {
		p.network = "tcp6"
	}
	return p
}

// towards returns the part whose state decides about a failure to connect to the address; the zero one is any public.
func (o *outbound) towards(to netip.AddrPort) part {
	p := partOf(to)
	other := part{scope: p.scope, network: map[string]string{"tcp4": "tcp6", "tcp6": "tcp4"}[p.network]}
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, family := range []part{p, other} {
		if f := o.parts[family]; f != nil && len(f.witnesses) > 0 {
			return family
		}
	}
	return part{scope: p.scope, network: "tcp"}
}

// resolved remembers a name that was answered. It is no evidence by itself, as the answer may come from a cache.
func (o *outbound) resolved(name string) {
	if len(name) <= maxWitnessName {
		o.update(dnsPart, func(f *finding) { f.remember(strings.TrimSuffix(name, ".")) })
	}
}

// answered remembers a host that sent an HTTP response.
func (o *outbound) answered(from netip.AddrPort) {
	o.update(partOf(from), func(f *finding) {
		f.remember(from.String())
		f.works()
	})
}

func (f *finding) works() {
	now := time.Now()
	if f.failedAt.After(f.workedAt) {
		f.restoredAt = now
	}
	f.workedAt = now
}

// state is what is known, since when, and why it fails.
func (f finding) state() (state AccessState, at time.Time, cause string) {
	switch {
	case f.workedAt.IsZero() && f.failedAt.IsZero():
		return AccessUnknown, time.Time{}, ""
	case f.workedAt.After(f.failedAt):
		return AccessOK, f.workedAt, ""
	}
	return AccessFailed, f.failedAt, f.cause
}

func (f *finding) remember(witness string) {
	others := slices.DeleteFunc(f.witnesses, func(w string) bool { return w == witness })
	f.witnesses = slices.Insert(others, 0, witness)
	f.witnesses = f.witnesses[:min(len(f.witnesses), maxWitnesses)]
}

func (o *outbound) update(p part, change func(*finding)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.parts[p] == nil {
		o.parts[p] = &finding{}
	}
	change(o.parts[p])
}

// known is what is known of the part.
func (o *outbound) known(p part) finding {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f := o.parts[p]; f != nil {
		return *f
	}
	return finding{}
}

// ours returns an error where the failure of an exchange is our own side's, or where ctx ended before that was known. name is what
// was looked up for it.
func (o *outbound) ours(ctx context.Context, r Response, to netip.AddrPort, name string) error {
	p, also := o.suspects(r, to, name)
	if p == (part{}) {
		return nil
	}
	var reached, answered <-chan bool
	if o.proxied && r.Class() == "unreachable" {
		reached = o.reach(p, to)
	}
	if p == dnsPart && name != "" {
		answered = o.answeredForIPv4(name)
	}
	moment := time.Now()
	lookup := make(chan error, 1)
	if r.Timings.DNS > maxLost { // a slow resolver leaves the receiver little time
		go func() { lookup <- o.oursBy(ctx, dnsPart, r, moment, "") }()
	} else {
		lookup <- nil
	}
	if err := errors.Join(o.oursBy(ctx, p, r, moment, also), <-lookup); err != nil {
		return err
	}
	if reached != nil && <-reached {
		return fmt.Errorf("%w: the proxy reaches the receiver now: %s", ErrNoOutboundAccess, r.Error)
	}
	if answered != nil && <-answered {
		return o.oursBy(ctx, dns6Part, r, moment, "")
	}
	return nil
}

// oursBy returns an error where a part of our own side made an exchange fail, by what is found out about it after a moment.
func (o *outbound) oursBy(ctx context.Context, p part, r Response, moment time.Time, also string) error {
	f, err := o.since(ctx, p, moment, also)
	if err != nil {
		return err
	}
	state, _, _ := f.state()
	if state == AccessFailed || state == AccessUnknown && time.Since(o.began) < accessGrace || r.StartedAt.Before(f.restoredAt.Add(o.timeout)) {
		return fmt.Errorf("%w: %s", ErrNoOutboundAccess, r.Error)
	}
	return nil
}

// suspects is what of our own side may have made an exchange fail, the zero part for nothing, and who may be asked beside others.
func (o *outbound) suspects(r Response, to netip.AddrPort, name string) (p part, also string) {
	switch class := r.Class(); {
	case class == "dns" && r.Error != noSuchHost:
		return dnsPart, ""
	case class == "dns" && o.namesHosts():
		return namePart, ""
	case class == "blocked" && name != "" && name != "localhost" && o.namesHosts():
		return placePart, ""
	case class == "unreachable", class == "connect_timeout":
		return o.towards(to), ""
	case class == "timeout", o.proxied && r.brokeOff():
		return o.towards(to), to.String()
	}
	return part{}, ""
}

// lookAgain begins a check of the network, unless one was made just now: a proxy has failed, and that a host answered lately says
// nothing any more.
func (o *outbound) lookAgain() {
	o.begin(o.towards(netip.AddrPort{}))
}

// begin begins a check of a part, unless one was made just now.
func (o *outbound) begin(p part) {
	if time.Since(o.known(p).checkedAt) > accessRest {
		o.check(p, "")
	}
}

// since is what is known of the part that was found out after a moment, also by asking one more host.
func (o *outbound) since(ctx context.Context, p part, moment time.Time, also string) (finding, error) {
	for asked := false; ; {
		f := o.known(p)
		if _, at, _ := f.state(); asked || at.After(moment) {
			return f, nil
		}
		if !sleep.For(ctx, accessRest-time.Since(f.checkedAt)) {
			return f, fmt.Errorf("egress: %w", context.Cause(ctx))
		}
		if _, at, _ := o.known(p).state(); at.After(moment) {
			continue
		}
		select {
		case <-o.check(p, also):
			asked = true
		case <-ctx.Done():
			return f, fmt.Errorf("egress: %w", context.Cause(ctx))
		}
	}
}

// check asks everybody who may know whether the part works, and one more where also is not empty, until one answers. There is
// one check of a part at a time.
func (o *outbound) check(p part, also string) <-chan singleflight.Result {
	return o.checks.DoChan(p.scope+p.network, func() (any, error) {
		asked := o.witnesses(p)
		if also != "" && !slices.Contains(asked, also) {
			asked = append(asked, also)
		}
		if len(asked) == 0 {
			return nil, nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), accessTimeout)
		defer cancel()
		answers := make(chan error, len(asked))
		for _, witness := range asked {
			go func() { answers <- o.ask(ctx, p, witness) }()
		}
		var err error
		for range asked {
			if err = <-answers; err == nil {
				break
			}
		}
		o.update(p, func(f *finding) {
			f.checkedAt = time.Now()
			if err == nil {
				f.works()
				return
			}
			f.failedAt = time.Now()
			if f.cause, err = faultOf(err); err != nil {
				f.cause = err.Error()
			}
		})
		return nil, nil
	})
}
