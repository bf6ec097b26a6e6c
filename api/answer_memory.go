package api

import (
	"slices"
	"sync"
	"time"
)

// room bounds the bytes of answers that are being sent. When it is full, a new answer cuts off the oldest ones. A client that
// reads its answer has finished long before, and one that does not cannot block others.
type room struct {
	mu   sync.Mutex
	free int64
	sent []*sending // oldest first
}

type sending struct {
	bytes int64
	since time.Time
	cut   func() // makes the sending fail
}

func newRoom(bytes int64) *room { return &room{free: bytes} }

// enter takes room for an answer until leave is called; it may be cut before.
func (r *room) enter(bytes int64, cut func()) (leave func(), found bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.free < bytes && len(r.sent) > 0 && time.Since(r.sent[0].since) >= largeGrace {
		r.sent[0].cut()
		r.remove(r.sent[0])
	}
	if r.free < bytes {
		return nil, false
	}
	s := &sending{bytes: bytes, since: time.Now(), cut: cut}
	r.free -= bytes
	r.sent = append(r.sent, s)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.remove(s)
	}, true
}

// remove is for who holds mu.
func (r *room) remove(s *sending) {
	if i := slices.Index(r.sent, s); i >= 0 {
		r.sent = slices.Delete(r.sent, i, i+1)
		r.free += s.bytes
	}
}
