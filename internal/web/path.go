package web

import (
	"net/url"
	"path"
	"strings"
)

// IsPathBelow reports whether s leads to root or below it, on this service and as it is written: it has neither a host nor what
// a browser or a server would take for another path. It may have a query.
func IsPathBelow(s, root string) bool {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Fragment != "" || strings.ContainsAny(s, "\\\t\r\n") {
		return false
	}
	root = strings.TrimSuffix(root, "/")
	written := strings.TrimSuffix(u.Path, "/")
	return strings.HasPrefix(s, root) && path.Clean(u.Path) == written && (written == root || strings.HasPrefix(written, root+"/"))
}
