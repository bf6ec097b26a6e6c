package api

import (
	"net/netip"
	"regexp"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/web"
)

// written is the request's path as it is written, which routes go by: a proxy's rule that looks at that, such as one that
// refuses /api/internal/, must not be got around by an encoding.
func written(c *gin.Context) string { return c.Request.URL.EscapedPath() }

const (
	prefixHeader = "X-Forwarded-Prefix"
	// maxPrefix bounds what a proxy may say that it has cut off.
	maxPrefix = 200
)

// sanePrefix is a path of names: none is empty, "." or "..", so that no link leads to another host.
var sanePrefix = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$`)

// prefix is what a trusted proxy has cut off the path, so that links must have it again; empty: nothing.
func (s *server) prefix(c *gin.Context) string {
	given := c.Request.Header.Values(prefixHeader)
	if len(given) != 1 || len(given[0]) > maxPrefix || !s.fromProxy(c) {
		return ""
	}
	prefix := strings.TrimSuffix(given[0], "/")
	if !sanePrefix.MatchString(prefix) {
		return ""
	}
	return prefix
}

// forwardedFor is the one header that names clients. Proxies that do not know X-Real-IP pass on what a client says there.
const forwardedFor = "X-Forwarded-For"

// withoutPorts leaves of X-Forwarded-For the addresses, which gin reads: Azure's Application Gateway, IIS and AWS's load balancer can
// write the client's port behind each.
func withoutPorts(c *gin.Context) {
	for i, value := range c.Request.Header.Values(forwardedFor) {
		items := strings.Split(value, ",")
		for n, item := range items {
			if addr, err := netip.ParseAddrPort(strings.TrimSpace(item)); err == nil {
				items[n] = addr.Addr().String()
			}
		}
		c.Request.Header[forwardedFor][i] = strings.Join(items, ",")
	}
}

// fromProxy says whether the request comes from one of the trusted proxies.
func (s *server) fromProxy(c *gin.Context) bool {
	return web.FromProxy(c.Request, s.cfg.TrustedProxies)
}
