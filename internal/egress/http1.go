package egress

import (
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

const (
	// http1For is how long a receiver that asked for HTTP/1.1 gets it without being asked again.
	http1For = time.Hour
	// maxHTTP1Hosts bounds how many are remembered.
	maxHTTP1Hosts = 1000
)

// asksForHTTP1 reports whether an HTTP/2 server refused a request unprocessed because it requires HTTP/1.1
// (HTTP_1_1_REQUIRED, RFC 9113, section 7). IIS and Apache refuse the stream when they would ask for a client certificate.
// A GOAWAY that excludes the stream refuses the connection; one that includes it may mean a processed request.
func asksForHTTP1(err error) bool {
	var stream http2.StreamError // net/http's own converts to it
	if errors.As(err, &stream) {
		return stream.Code == http2.ErrCodeHTTP11Required
	}
	return strings.HasSuffix(err.Error(), "received GOAWAY from server ErrCode:HTTP_1_1_REQUIRED")
}

// http1Hosts remembers which hosts, with their ports, want HTTP/1.1. Reading takes no lock: every delivery does.
type http1Hosts struct {
	adding sync.Mutex
	until  atomic.Pointer[map[string]time.Time] // never changed, but replaced
}

func (h *http1Hosts) has(host string) bool {
	known := h.until.Load()
	return known != nil && time.Now().Before((*known)[host])
}

func (h *http1Hosts) add(host string) {
	h.adding.Lock()
	defer h.adding.Unlock()
	next := map[string]time.Time{}
	if known := h.until.Load(); known != nil {
		maps.Copy(next, *known)
	}
	now := time.Now()
	maps.DeleteFunc(next, func(_ string, until time.Time) bool { return now.After(until) })
	if len(next) >= maxHTTP1Hosts {
		clear(next) // they are asked again
	}
	next[host] = now.Add(http1For)
	h.until.Store(&next)
}
