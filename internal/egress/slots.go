package egress

import (
	"context"
	"sync"
)

// hostSlots bounds the exchanges in flight with each host.
type hostSlots struct {
	limit int
	mu    sync.Mutex
	hosts map[string]*hostSlot // those with an exchange in flight or waiting
}

type hostSlot struct {
	taken chan struct{}
	users int // exchanges in flight or waiting; guarded by hostSlots.mu
}

// acquire waits for a place with the host, or for the end of ctx.
func (s *hostSlots) acquire(ctx context.Context, host string) (*hostSlot, error) {
	s.mu.Lock()
	h := s.hosts[host]
	if h == nil {
		if s.hosts == nil {
			s.hosts = make(map[string]*hostSlot)
		}
		h = &hostSlot{taken: make(chan struct{}, s.limit)}
		s.hosts[host] = h
	}
	h.users++
	s.mu.Unlock()

	select {
	case h.taken <- struct{}{}:
		return h, nil
	case <-ctx.Done():
		s.leave(host, h)
		return nil, context.Cause(ctx)
	}
}

func (s *hostSlots) release(host string, h *hostSlot) {
	<-h.taken
	s.leave(host, h)
}

func (s *hostSlots) leave(host string, h *hostSlot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.users--; h.users == 0 {
		delete(s.hosts, host)
	}
}
