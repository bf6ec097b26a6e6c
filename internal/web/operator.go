package web

import (
	"cmp"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

const (
	// operatorHeader is where a trusted proxy, such as oauth2-proxy, names the user that it has signed in.
	operatorHeader = "X-Forwarded-User"
	// callerHeader is where a caller with the service token names its user, as the command line does.
	callerHeader = "X-Mathub-Operator"
	// maxOperator bounds such a name, in bytes.
	maxOperator = 200
)

// OperatorOf is the user that a trusted proxy has signed in; empty: none.
func OperatorOf(r *http.Request, proxies []netip.Prefix) string {
	if !FromProxy(r, proxies) {
		return ""
	}
	return named(r, operatorHeader)
}

// CallerOf is the user behind a call with the service token: the one that a trusted proxy names, else the one that the caller
// names; empty: none.
func CallerOf(r *http.Request, proxies []netip.Prefix) string {
	return cmp.Or(OperatorOf(r, proxies), named(r, callerHeader))
}

func named(r *http.Request, header string) string {
	given := r.Header.Values(header)
	if len(given) != 1 || len(given[0]) > maxOperator {
		return ""
	}
	return strings.Map(func(r rune) rune { // a log, a page and a terminal show it
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, strings.ToValidUTF8(given[0], "\uFFFD"))
}

// FromProxy says whether a request comes from one of the proxies.
func FromProxy(r *http.Request, proxies []netip.Prefix) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && slices.ContainsFunc(proxies, func(proxy netip.Prefix) bool {
		return proxy.Contains(peer.Addr().Unmap().WithZone(""))
	})
}
