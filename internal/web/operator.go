package web

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

const (
	// operatorHeader is where a trusted proxy names whom it has signed in, as oauth2-proxy and its like do.
	operatorHeader = "X-Forwarded-User"
	// maxOperator bounds such a name.
	maxOperator = 200
)

// OperatorOf is whom a trusted proxy says that it has signed in; empty: nobody.
func OperatorOf(r *http.Request, proxies []netip.Prefix) string {
	given := r.Header.Values(operatorHeader)
	if len(given) != 1 || len(given[0]) > maxOperator || !FromProxy(r, proxies) {
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
