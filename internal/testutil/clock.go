package testutil

import (
	"sync"
	"time"
)

// Clock stands still until a test moves it. Its zero value is not usable: see NewClock.
type Clock struct {
	mu sync.Mutex
	at time.Time // guarded by mu
}

// NewClock returns a clock that stands at the present time.
func NewClock() *Clock { return &Clock{at: time.Now()} }

// Now is where the clock stands.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// Advance moves the clock.
func (c *Clock) Advance(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(by)
}
