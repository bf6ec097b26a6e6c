package web

import (
	"cmp"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

const (
	// operatorHeader is where a trusted proxy names whom it has signed in, as oauth2-proxy and its like do.
	operatorHeader = "X-Forwarded-User"
	// callerHeader is where who has the service token says who uses it, as the command line does.
	callerHeader = "X-Mathub-Operator"
	// maxOperator bounds such a name.
	maxOperator = 200
)

// OperatorOf is whom a trusted proxy says that it has signed in; empty: nobody.
func OperatorOf(r *http.Request, proxies []netip.Prefix) string {
	if !FromProxy(r, proxies) {
		return ""
	}
	return named(r, operatorHeader)
}

// CallerOf is who uses the service token, as whoever has it says; empty: nobody is named. A trusted proxy knows better.
func CallerOf(r *http.Request, proxies []netip.Prefix) string {
	return cmp.Or(OperatorOf(r, proxies), named(r, callerHeader))
}

func named(r *http.Request, header string) string {
	given := r.Header.Values(header)
	if len(given) != 1 || len(given[0]) > maxOperator {
		return ""
	}
	return strings.ToValidUTF8(given[0], "\uFFFD")
}

// FromProxy says whether a request comes from one of the proxies.
func FromProxy(r *http.Request, proxies []netip.Prefix) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && slices.ContainsFunc(proxies, func(proxy netip.Prefix) bool {
		return proxy.Contains(peer.Addr().Unmap().WithZone(""))
	})
}
