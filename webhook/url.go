package webhook

import (
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// HostOf is the host, with its port, of an endpoint URL: what may be shown of it, as the rest may hold a token. It is empty
// for what is no URL.
func HostOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Host
}

// Hostname is a host without its port, and an IPv6 address without brackets: as pauses name it.
func Hostname(host string) string {
	if strings.Count(host, ":") > 1 && !strings.HasPrefix(host, "[") {
		return host
	}
	return (&url.URL{Host: host}).Hostname()
}

// OriginOf is the scheme, host and port of an endpoint URL, by the same rule.
func OriginOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// URLRules decides which endpoint URLs a webhook may have. The zero value is the contract's: https on the public
// internet only.
type URLRules struct {
	// Allow lists networks that may be reached although they are not public, for those who run inside. Loopback
	// networks allow localhost; any other non-public one allows internal names, since only their address can tell.
	Allow []netip.Prefix
	// AllowHTTP allows http:// beside https://.
	AllowHTTP bool
	// AllowPorts and NAT64 are those of AddressPolicy.
	AllowPorts []uint16
	NAT64      []netip.Prefix
}

// Check checks an endpoint URL and returns it in the form in which it is stored and requested: scheme and host in
// lower case, international names in punycode, IPv4 addresses in four decimal parts, no trailing dot after the name, no
// port that is the scheme's default, and everything but printable ASCII percent-encoded. Path and query are otherwise left
// as they are.
//
// The error is an *InvalidError on the field "url" that does not quote the URL, since URLs hold tokens. Refused are
// other schemes, user info, fragments, more than MaxURLBytes, addresses that AddressPolicy does not permit in any
// notation that some resolver reads as an address (decimal, octal, hexadecimal, short), names that no resolver of the
// internet knows (RFC 6761, RFC 6762 appendix G, RFC 7686, RFC 8375, RFC 9476), and ports of other protocols, databases and
// control planes. Where a name's address leads cannot be known here; egress judges it when it connects.
func (r URLRules) Check(raw string) (normalised string, err error) {
	normalised, fault := r.check(raw)
	if fault != "" {
		return "", invalid("url", fault)
	}
	return normalised, nil
}

const (
	urlTooLong  = "must have at most 2048 bytes"
	urlNotAURL  = "must be an absolute URL such as https://example.com/hook"
	urlInternal = "must not point to a private, local or other special address"
	urlNameOnly = "must have a public host name, not localhost or a name of a private network, such as one under .local"
	urlNoName   = "must not have a name under .invalid, .onion or .alt, which DNS does not resolve"
)

func (r URLRules) check(raw string) (normalised, fault string) {
	if fault := checkCharacters(raw); fault != "" {
		return "", fault
	}
	u, err := url.Parse(raw)
	if err != nil { // its text quotes the URL
		return "", urlNotAURL
	}
	if fault := r.checkScheme(u.Scheme); fault != "" {
		return "", fault
	}
	_, rest, ok := strings.Cut(raw, "://")
	if !ok || u.Opaque != "" {
		return "", urlNotAURL
	}
	authority := rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority = rest[:i]
	}
	if fault := checkAuthority(u, authority); fault != "" {
		return "", fault
	}
	host, fault := r.checkHost(u.Hostname(), strings.HasPrefix(authority, "["))
	if fault != "" {
		return "", fault
	}
	port, fault := r.checkPort(u.Scheme, u.Port())
	if fault != "" {
		return "", fault
	}
	normalised = u.Scheme + "://" + host + port + encodeRest(rest[len(authority):])
	if len(normalised) > MaxURLBytes {
		return "", urlTooLong + " after percent-encoding and punycode"
	}
	return normalised, ""
}

// checkCharacters refuses what is wrong with a URL before it is parsed.
func checkCharacters(raw string) (fault string) {
	switch {
	case raw == "":
		return "must not be empty"
	case len(raw) > MaxURLBytes:
		return urlTooLong
	case !utf8.ValidString(raw):
		return "must be valid UTF-8"
	// Parsers disagree about these, and a disagreement is how a URL is shown to lead elsewhere than it does.
	case strings.ContainsFunc(raw, func(c rune) bool { return c <= ' ' || c >= 0x7f && c <= 0xa0 || c == '\\' }):
		return "must not contain spaces, control characters or backslashes"
	case strings.Contains(raw, "#"):
		return "must not have a fragment"
	}
	return ""
}

func (r URLRules) checkScheme(scheme string) (fault string) {
	switch {
	case scheme == "https", scheme == "http" && r.AllowHTTP:
		return ""
	case scheme == "http":
		return "must begin with https://"
	}
	return urlNotAURL
}

// checkAuthority checks what stands between the slashes and the path (RFC 3986, section 3.2), which is user info, host and
// port.
func checkAuthority(u *url.URL, authority string) (fault string) {
	switch {
	case u.User != nil || strings.Contains(authority, "@"):
		return "must not contain a user name or password"
	case authority == "" || u.Hostname() == "":
		return "must have a host"
	case strings.Contains(authority, "%"):
		return "must not have percent-encoding or a zone in its host"
	}
	return ""
}

// checkPort takes the digits after the colon, perhaps none, and returns them with it; nothing for the scheme's default.
func (r URLRules) checkPort(scheme, digits string) (port, fault string) {
	if digits == "" {
		return "", ""
	}
	n, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || n == 0 {
		return "", "must have a port from 1 to 65535"
	}
	if !r.addresses().PermitsPort(uint16(n)) {
		return "", "must not have a port of another protocol, a database or a control plane"
	}
	if n == defaultPorts[scheme] {
		return "", ""
	}
	return ":" + strconv.FormatUint(n, 10), ""
}

var defaultPorts = map[string]uint64{"https": 443, "http": 80}

// encodeRest percent-encodes what may not stand in a URI's path and query (RFC 3986, section 3.3 and 3.4), so that the
// request line is sent exactly as stored.
func encodeRest(rest string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(rest) {
		c := rest[i]
		if c > ' ' && c < 0x7f && !strings.ContainsRune("\"<>^`{|}", rune(c)) {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hexDigits[c>>4])
		b.WriteByte(hexDigits[c&15])
	}
	return b.String()
}

func (r URLRules) checkHost(host string, bracketed bool) (normalised, fault string) {
	name, ip, fault := parseHost(host, bracketed)
	switch labels := strings.Split(name, "."); {
	case fault != "":
		return "", fault
	case ip.IsValid() && !r.addresses().Permits(ip):
		return "", urlInternal
	case ip.Unmap().Is6():
		return "[" + name + "]", ""
	case ip.IsValid():
		return name, ""
	case slices.Contains(nowhere, labels[len(labels)-1]):
		return "", urlNoName
	case !r.permitsName(name, labels):
		return "", urlNameOnly
	}
	return name, ""
}

// parseHost reads a name, or an address, which ip then is; name is its one form.
func parseHost(host string, bracketed bool) (name string, ip netip.Addr, fault string) {
	if bracketed {
		ip, err := netip.ParseAddr(host)
		if err != nil || !ip.Is6() {
			return "", ip, "must have a valid IPv6 address in brackets"
		}
		return ip.Unmap().String(), ip, ""
	}
	if name, fault = asciiName(host); fault != "" {
		return "", ip, fault
	}
	name = strings.TrimSuffix(name, ".")
	labels := strings.Split(name, ".")
	if endsInNumber(labels) {
		ip, ok := parseIPv4(labels)
		if !ok {
			return "", ip, "must have a host that is a name or a valid IP address"
		}
		return ip.String(), ip, ""
	}
	if !validName(name, labels) {
		return "", ip, "must have a valid host name"
	}
	return name, ip, ""
}

// CanonicalHost is a host without a port as the URLs of webhooks have it, but an IPv6 address without its brackets. ok: it is
// a name, or an address.
func CanonicalHost(host string) (canonical string, ok bool) {
	if strings.ContainsAny(host, "%") {
		return "", false
	}
	inner, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		if inner, ok = strings.CutSuffix(inner, "]"); !ok {
			return "", false
		}
	}
	canonical, _, fault := parseHost(inner, bracketed || strings.Contains(host, ":"))
	return canonical, fault == ""
}

func (r URLRules) addresses() AddressPolicy {
	return AddressPolicy{Allow: r.Allow, AllowPorts: r.AllowPorts, NAT64: r.NAT64}
}

// lookupProfile maps as browsers do (UTS 46, non-transitional). What may stand in ASCII is validName's: real names
// have hyphens in the third and fourth place, and underscores.
var lookupProfile = idna.New(
	idna.MapForLookup(), idna.Transitional(false), idna.BidiRule(), idna.CheckHyphens(false),
	idna.StrictDomainName(false),
)

// asciiName turns an international name to punycode and any name to lower case. Punycode that was given is decoded and
// held to the same rules as the name it stands for.
func asciiName(host string) (ascii, fault string) {
	for _, c := range host {
		if c < utf8.RuneSelf {
			continue
		}
		// Full-width digits and letters, circled numbers, other full stops, invisible characters: what UTS 46 maps
		// to ASCII or to nothing serves disguise only.
		if mapped, _ := lookupProfile.ToUnicode(string(c)); isASCII(mapped) {
			return "", "must not have variants of ASCII characters in its host, such as full-width digits"
		}
	}
	ascii, err := lookupProfile.ToASCII(host)
	if err != nil || !isASCII(ascii) {
		return "", "must have a valid host name"
	}
	return strings.ToLower(ascii), ""
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// validName checks lengths and characters of a name in ASCII (RFC 1123, section 2.1, and "_", which DNS allows and
// some hosts have).
func validName(name string, labels []string) bool {
	if len(name) == 0 || len(name) > 253 {
		return false
	}
	for _, label := range labels {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

// internalSuffixes resolve only inside some network: RFC 6761 (localhost), RFC 6762 (local, and in appendix G what
// sites are known to use), RFC 8375 (home.arpa); internal is reserved by ICANN for this use, and names the metadata
// servers of clouds.
var internalSuffixes = []string{
	"local", "localdomain", "internal", "intranet", "private", "corp", "home", "lan", "home.arpa",
}

// nowhere are top-level names that are in no DNS, by agreement: RFC 6761, section 6.4, RFC 7686 and RFC 9476.
var nowhere = []string{"invalid", "onion", "alt"}

var (
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
)

func (r URLRules) permitsName(name string, labels []string) bool {
	if last := labels[len(labels)-1]; last == "localhost" || name == "localhost.localdomain" {
		// RFC 6761, section 6.3: every name under localhost is loopback.
		return slices.ContainsFunc(r.Allow, func(n netip.Prefix) bool {
			return n.Overlaps(loopback4) || n.Overlaps(loopback6)
		})
	}
	if labels[len(labels)-1] == "test" {
		return len(r.Allow) > 0 // RFC 6761, section 6.2: for tests, in a network or on a machine
	}
	internal := len(labels) == 1 // completed by the resolver's search list
	for _, suffix := range internalSuffixes {
		internal = internal || name == suffix || strings.HasSuffix(name, "."+suffix)
	}
	return !internal || slices.ContainsFunc(r.Allow, func(n netip.Prefix) bool {
		within := func(outer netip.Prefix) bool { return outer.Contains(n.Addr()) && n.Bits() >= outer.Bits() }
		return !within(loopback4) && !within(loopback6)
	})
}

// endsInNumber tells, as the URL standard does (WHATWG, "ends in a number"), whether a host has to be an IPv4 address.
func endsInNumber(labels []string) bool {
	last := labels[len(labels)-1]
	if last == "" {
		return false
	}
	if strings.Trim(last, "0123456789") == "" {
		return true
	}
	digits, ok := strings.CutPrefix(last, "0x")
	return ok && strings.Trim(digits, "0123456789abcdef") == ""
}
