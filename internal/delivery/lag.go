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

// lag finds out whether this process has more to deliver than it can: whether attempts that wait for nothing but its own
// processors begin late on average.
type lag struct {
	mu   sync.Mutex
	last [2]delays // of the interval before, and of this one
	ends time.Time // of this interval
}

type delays struct {
	sum time.Duration
	n   time.Duration
}

// sample adds how long after its acceptance an attempt begins.
func (l *lag) sample(delay time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(time.Now())
	l.last[1].sum += delay
	l.last[1].n++
}

// turn begins a new interval when this one is over.
func (l *lag) turn(now time.Time) {
	switch {
	case now.Before(l.ends):
		return
	case now.Before(l.ends.Add(lagInterval)):
		l.last[0], l.ends = l.last[1], l.ends.Add(lagInterval)
	default:
		l.last[0], l.ends = delays{}, now.Add(lagInterval)
	}
	l.last[1] = delays{}
}

// behind says that attempts begin late.
func (l *lag) behind() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(time.Now())
	sum, n := l.last[0].sum+l.last[1].sum, l.last[0].n+l.last[1].n
	return n > 0 && sum/n > lagTarget
}
