package delivery

import (
	"sync"
	"time"
)

const (
	// lagTarget is how late after its acceptance an attempt may begin, as far as it is ours, before no more is to be taken in.
	lagTarget = 300 * time.Millisecond
	// lagInterval is over how long lag is looked at.
	lagInterval = 200 * time.Millisecond
)

// lag finds out whether this process has more to deliver than it can. As CoDel does (RFC 8289 §3), it looks at the least
// delay in an interval: while one attempt begins in time, what makes others late is not a standing queue.
type lag struct {
	mu    sync.Mutex
	least [2]time.Duration // in the interval before, and in this one; 0: there was no attempt
	ends  time.Time        // of this interval
}

// sample adds how long after its acceptance an attempt begins.
func (l *lag) sample(delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(time.Now())
	if l.least[1] == 0 || delay < l.least[1] {
		l.least[1] = max(1, delay)
	}
}

// turn begins a new interval when this one is over.
func (l *lag) turn(now time.Time) {
	switch {
	case now.Before(l.ends):
		return
	case now.Before(l.ends.Add(lagInterval)):
		l.least[0], l.ends = l.least[1], l.ends.Add(lagInterval)
	default:
		l.least[0], l.ends = 0, now.Add(lagInterval)
	}
	l.least[1] = 0
}

// behind says that there is a standing queue.
func (l *lag) behind() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(time.Now())
	last := l.least[0]
	if last == 0 || l.least[1] > 0 && l.least[1] < last {
		last = l.least[1]
	}
	return last > lagTarget
}
