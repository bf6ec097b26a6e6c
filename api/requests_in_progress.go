package api

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/listen"
	"github.com/mathub/webhooks/internal/openfiles"
	"github.com/mathub/webhooks/internal/problem"
)

// maxInProgress is how many requests of one client address are answered at once: a quarter of the connections that a
// listener holds, 500 or less. Behind a trusted proxy, the client is whom it names.
var maxInProgress = openfiles.Connections() / 4

// inProgress counts requests by client address.
type inProgress struct {
	mu sync.Mutex
	of map[netip.Prefix]int
}

func (p *inProgress) begin(client netip.Prefix) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[client] >= maxInProgress {
		return false
	}
	p.of[client]++
	return true
}

func (p *inProgress) end(client netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[client]--; p.of[client] == 0 {
		delete(p.of, client)
	}
}

// share keeps one client from having all that this process can do. Mathub's backend may have it.
func (s *server) share(c *gin.Context) {
	if s.fromBackend(c) {
		return
	}
	addr, _ := netip.ParseAddr(c.ClientIP()) // the zero address where there is none, as of a local socket
	client := listen.Client(addr)
	if !s.inProgress.begin(client) {
		fail(c, s.log, &problem.Error{Kind: problem.TooManyRequests, Detail: fmt.Sprintf("This address has %d requests in progress, the most allowed. Wait for one to end.", maxInProgress)})
		return
	}
	defer s.inProgress.end(client)
	c.Next()
}
