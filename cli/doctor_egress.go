package cli

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/mathub/webhooks/internal/egress"
)

const (
	// An allowed network wider than these is no single network of one's own any more.
	widestIPv4, widestIPv6 = 16, 48
)

// Addresses that no receiver has, and that an allow list therefore should not hold.
var neverReceivers = []struct {
	what string
	addr netip.Addr
}{
	{"the cloud's metadata service", netip.MustParseAddr("169.254.169.254")},
	{"the cloud's metadata service", netip.MustParseAddr("fd00:ec2::254")},
	{"this machine itself", netip.MustParseAddr("127.0.0.1")},
	{"this machine itself", netip.MustParseAddr("::1")},
}

func (d *Doctor) examineEgress(ctx context.Context, program Program, environ []string) []finding {
	allowed, allow := judgeAllowList(d.EgressAllow)
	var options egress.Options
	if program.EgressOptions != nil {
		options, _ = program.EgressOptions() // what is wrong with them is said by the check of the settings
	}
	findings := append(judgeProxies(options.Proxy, environ), allow)
	if options.ClientCertificate != nil {
		findings = append(findings, judgeClientCertificate(options.ClientCertificate.Subject(), d.now(), options.ClientCertificate.NotAfter()))
	}
	allowHTTP := slices.Contains([]string{"true", "1", "yes"}, strings.ToLower(d.EgressAllowHTTP))
	if allowHTTP {
		findings = append(findings, warning("http receivers", "unset MATHUB_EGRESS_ALLOW_HTTP if receivers are on the internet", "allowed: events can be read and changed in transit"))
	} else {
		findings = append(findings, ok("http receivers", "refused"))
	}
	options.Allow, options.AllowHTTP = allowed, allowHTTP
	options.CheckHosts, _ = egress.ParseCheckHosts(d.EgressCheck) // likewise
	out := egress.New(options)
	defer out.Close()
	checking, cancel := context.WithTimeout(ctx, doctorPatience)
	defer cancel()
	findings = append(findings, judgeOutboundAccess(out.OutboundAccess(checking)))
	if d.Probe == nil {
		return append(findings, note("probe", "skipped; give a URL with --probe"))
	}
	return append(findings, d.probe(ctx, out)...)
}

// judgeOutboundAccess warns only: an installation whose receivers are all of its own network may have none.
func judgeOutboundAccess(a egress.Access) finding {
	const check = "outbound access"
	const fix = "; if this network cannot reach the hosts of MATHUB_EGRESS_CHECK, set others"
	switch {
	case a.DNS == egress.AccessFailed:
		return warning(check, "give this process a DNS resolver for the internet: check /etc/resolv.conf, UDP and TCP port 53"+fix, "DNS lookups fail: %s", a.Cause)
	case a.Network == egress.AccessFailed:
		return warning(check, "allow outbound TCP 443 in firewalls and network policies, and look at the proxy if there is one"+fix, "connections fail: %s", a.Cause)
	case a.DNS == egress.AccessUnknown && a.Network == egress.AccessUnknown:
		return note(check, "not checked: MATHUB_EGRESS_CHECK is empty")
	}
	return ok(check, "DNS %s, network %s", a.DNS, a.Network)
}

// judgeProxies says which proxy is used, without its user and password, and which variables are not.
func judgeProxies(proxy *egress.Proxy, environ []string) []finding {
	used := ok("proxy", "none: deliveries connect directly")
	if proxy != nil {
		login := "without a user"
		if proxy.HasUser() {
			login = "with a user and password"
		}
		used = ok("proxy", "deliveries go through %s, %s", proxy, login)
	}
	var set []string
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if value != "" && slices.Contains([]string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}, strings.ToUpper(name)) {
			set = append(set, name)
		}
	}
	if len(set) > 0 {
		slices.Sort(set)
		return []finding{used, note("proxy variables", "%s set but not used: deliveries go through the proxy of MATHUB_EGRESS_PROXY only", strings.Join(set, ", "))}
	}
	return []finding{used}
}

// expiresSoon is how long before a certificate's end the doctor warns.
const expiresSoon = 30 * 24 * time.Hour

func judgeClientCertificate(subject string, now, notAfter time.Time) finding {
	const check = "client certificate"
	const fix = "write a new one to the file of MATHUB_EGRESS_CLIENT_CERT; processes read it without a restart"
	left, until := notAfter.Sub(now), notAfter.UTC().Format(time.RFC3339)
	switch {
	case left <= 0:
		return failed(check, fix, "%s expired at %s: receivers that ask for it get nothing, and are not blamed", subject, until)
	case left < expiresSoon:
		return warning(check, fix, "%s expires at %s, in %d days", subject, until, int(left.Hours()/24))
	}
	return ok(check, "%s, until %s", subject, until)
}

// judgeAllowList returns the networks that can be read, too; what cannot be is said by the check of the settings.
func judgeAllowList(list []string) (allowed []netip.Prefix, _ finding) {
	const check = "allowed networks"
	var wide []string
	for _, entry := range list {
		if entry == "" {
			continue
		}
		network, err := netip.ParsePrefix(entry)
		if err != nil {
			return allowed, failed(check, "write networks such as 10.1.2.0/24, separated by commas", "MATHUB_EGRESS_ALLOW has an invalid entry: %q", entry)
		}
		allowed = append(allowed, network)
		for _, never := range neverReceivers {
			if network.Contains(never.addr) {
				wide = append(wide, entry+" includes "+never.what)
				break
			}
		}
		widest := widestIPv6
		if network.Addr().Is4() {
			widest = widestIPv4
		}
		if network.Bits() < widest {
			wide = append(wide, entry+" is large")
		}
	}
	switch {
	case len(wide) > 0:
		return allowed, warning(check, "put only the networks of receivers in MATHUB_EGRESS_ALLOW", "any bot can send requests there: %s", strings.Join(wide, ", "))
	case len(allowed) > 0:
		return allowed, ok(check, "%s and the public internet", strings.Join(list, ","))
	}
	return allowed, ok(check, "only the public internet")
}

// probe makes a delivery to the URL that was named, through the guard and the limits of every delivery.
func (d *Doctor) probe(ctx context.Context, out *egress.Client) []finding {
	var findings []finding
	host := d.Probe.Hostname()
	if _, err := netip.ParseAddr(host); err != nil {
		resolving, cancel := context.WithTimeout(ctx, doctorPatience)
		defer cancel()
		found, err := (&net.Resolver{PreferGo: true}).LookupNetIP(resolving, "ip", host)
		if err != nil {
			return append(findings, failed("DNS", "give this process a DNS resolver: check /etc/resolv.conf, UDP and TCP port 53", "lookup of %s failed: %s", host, err))
		}
		findings = append(findings, ok("DNS", "%s has %d addresses", host, len(found)))
	}
	answer, err := out.Post(ctx, d.Probe.String(), http.Header{"Content-Type": {"application/json"}, "User-Agent": {"Mathub-Webhooks/doctor"}}, []byte("{}"))
	switch {
	case err != nil:
		return append(findings, failed("probe", "check outbound access and the limits of this process: open files, memory", "%s", err))
	case answer.StatusCode == 0:
		return append(findings, failed("probe", "allow outbound TCP 443 in firewalls and network policies", "%s: %s", host, answer.Error))
	}
	return append(findings, ok("probe", "%s answered with status %d in %s", host, answer.StatusCode, answer.Duration.Round(time.Millisecond)))
}
