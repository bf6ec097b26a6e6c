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
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLocalHost(r.Host, names) {
			http.Error(w, "Host not allowed. Use localhost or 127.0.0.1.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func isLocalHost(host string, names []string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host // without a port
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") || slices.Contains(names, name) {
		return true
	}
	addr, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"))
	return err == nil && addr.Unmap().IsLoopback()
}
