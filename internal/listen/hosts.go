package listen

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// LocalHosts refuses requests whose Host is neither a loopback address or name nor one of names. A page of a stranger, whose
// name is made to resolve to 127.0.0.1 (DNS rebinding), could else have its reader's browser ask, and read the answers.
func LocalHosts(next http.Handler, names ...string) http.Handler {
	return onlyHosts(next, "localhost or 127.0.0.1", names, netip.Addr.IsLoopback)
}

// KnownHosts is LocalHosts for what is reached from other machines too: any address is as good, as a page of a stranger has a
// name.
func KnownHosts(next http.Handler, names ...string) http.Handler {
	return onlyHosts(next, "an IP address, localhost or a name in MATHUB_ADMIN_HOSTS", names, netip.Addr.IsValid)
}

func onlyHosts(next http.Handler, use string, names []string, allowed func(netip.Addr) bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isKnownHost(r.Host, names, allowed) {
			http.Error(w, "Host not allowed. Use "+use+".", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isKnownHost(host string, names []string, allowed func(netip.Addr) bool) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host // without a port
	}
	name = strings.TrimSuffix(name, ".")
	same := func(known string) bool { return strings.EqualFold(known, name) }
	if name = strings.ToLower(name); name == "localhost" || strings.HasSuffix(name, ".localhost") || slices.ContainsFunc(names, same) {
		return true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"))
	return err == nil && allowed(addr.Unmap())
}
