package delivery

import (
	"sync"
	"time"
)

const (
	// lagTarget is how late after its acceptance an attempt may come, by our own fault, before no more is to be taken in.
	lagTarget = 300 * time.Millisecond
	// lagInterval is over how long lag is looked at.
	lagInterval = 200 * time.Millisecond
)

// lag finds out whether this process has more to deliver than it can: whether attempts come late, on average, with most of the
// bots. With fewer bots it is a burst to them, which is to keep no other bot's events out. Until an attempt asks for its place,
// it has waited for nothing but this process. How soon a place comes free, its bot's receivers decide, unless this process's
// processors are scarce: then those that wait are late by as long as they will wait at the present pace. How long others have
// waited says nothing of that: it stays high when few are left.
type lag struct {
	// isScarce says whether processors were scarce since it was last called. Nil: they never are.
	isScarce func() bool
	// waiting is how many deliveries of a bot wait for places.
	waiting func(botID string) int

	mu     sync.Mutex
	last   [2]map[string]delays // by bot, of the interval before, and of this one
	ends   time.Time            // of this interval
	scarce bool                 // processors were, in the interval before
}

// delays are those of the attempts of some time.
type delays struct {
	sum time.Duration
	n   time.Duration // how many attempts
}

func (d delays) plus(o delays) delays { return delays{d.sum + o.sum, d.n + o.n} }

// sample adds how long after its acceptance an attempt asked for its place. It has got one since, or has given up.
func (l *lag) sample(botID string, asked time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(time.Now())
	l.last[1][botID] = l.last[1][botID].plus(delays{asked, 1})
}

// turn begins a new interval when this one is over.
func (l *lag) turn(now time.Time) {
	switch {
	case now.Before(l.ends):
		return
	case now.Before(l.ends.Add(lagInterval)):
		l.last[0], l.ends = l.last[1], l.ends.Add(lagInterval)
	default:
		l.last[0], l.ends = nil, now.Add(lagInterval)
	}
	l.last[1] = map[string]delays{}
	l.scarce = l.isScarce != nil && l.isScarce()
}

// behind says that attempts begin late.
func (l *lag) behind() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.turn(now)
	span := lagInterval - l.ends.Sub(now)
	if l.last[0] != nil {
		span += lagInterval
	}
	bots, late := 0, 0
	count := func(botID string, d delays) {
		if bots++; d.sum > d.n*lagTarget || l.scarce && time.Duration(l.waiting(botID))*span > d.n*lagTarget {
			late++
		}
	}
	for botID, d := range l.last[1] {
		count(botID, d.plus(l.last[0][botID]))
	}
	for botID, d := range l.last[0] {
		if _, counted := l.last[1][botID]; !counted {
			count(botID, d)
		}
	}
	return 2*late > bots
}
