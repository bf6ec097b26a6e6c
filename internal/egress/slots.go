package egress

import (
	"container/list"
	"context"
	"sync"
)

// places are those for exchanges: so many in all, and so many with each host. Of both, a bot gets no more than it leaves free. So n
// bots take n of n+1 parts, and there is always room for the next.
type places struct {
	most, perHost int

	mu      sync.Mutex
	taken   int            // guarded by mu, as what follows
	ofBot   map[string]int // taken, as in the next two
	ofHost  map[string]int
	ofLane  map[lane]int
	waiting map[lane]*list.Element // of turns
	turns   *list.List             // of *waitingLane, in turn
}

// lane is what may have the same places. Without a bot it has no share to keep to.
type lane struct{ bot, host string }

// waitingLane are those who wait for a place of a lane.
type waitingLane struct {
	lane
	waiters *list.List // of chan struct{}, which is closed when its place is there
}

func newPlaces(most, perHost int) *places {
	return &places{
		most: most, perHost: perHost, ofBot: map[string]int{}, ofHost: map[string]int{}, ofLane: map[lane]int{},
		waiting: map[lane]*list.Element{}, turns: list.New(),
	}
}

// acquire waits for a place, or for the end of ctx.
func (p *places) acquire(ctx context.Context, l lane) error {
	element := p.ask(l)
	granted := element.Value.(chan struct{})
	select {
	case <-granted:
		return nil
	case <-ctx.Done():
	}
	if !p.withdraw(l, element) {
		p.release(l)
	}
	return context.Cause(ctx)
}

func (p *places) ask(l lane) *list.Element {
	p.mu.Lock()
	defer p.mu.Unlock()
	turn := p.waiting[l]
	if turn == nil {
		turn = p.turns.PushBack(&waitingLane{lane: l, waiters: list.New()})
		p.waiting[l] = turn
	}
	element := turn.Value.(*waitingLane).waiters.PushBack(make(chan struct{}))
	p.grant()
	return element
}

// withdraw takes back one that waits. false: it has its place by now.
func (p *places) withdraw(l lane, element *list.Element) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-element.Value.(chan struct{}):
		return false
	default:
	}
	turn := p.waiting[l]
	waiters := turn.Value.(*waitingLane).waiters
	if waiters.Remove(element); waiters.Len() == 0 {
		p.turns.Remove(turn)
		delete(p.waiting, l)
	}
	return true
}

func (p *places) release(l lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count(l, -1)
	p.grant()
}

// grant gives the lanes that wait, in turn, what places they may have.
func (p *places) grant() {
	for turn := p.turns.Front(); turn != nil && p.taken < p.most; {
		w, next := turn.Value.(*waitingLane), turn.Next()
		if p.mayHave(w.lane) {
			close(w.waiters.Remove(w.waiters.Front()).(chan struct{}))
			p.count(w.lane, 1)
			if w.waiters.Len() == 0 {
				p.turns.Remove(turn)
				delete(p.waiting, w.lane)
			} else if p.turns.MoveToBack(turn); next == nil {
				next = turn
			}
		}
		turn = next
	}
}

func (p *places) mayHave(l lane) bool {
	free, freeAtHost := p.most-p.taken, p.perHost-p.ofHost[l.host]
	if free <= 0 || freeAtHost <= 0 {
		return false
	}
	return l.bot == "" || p.ofBot[l.bot] < free && p.ofLane[l] < freeAtHost
}

func (p *places) count(l lane, n int) {
	p.taken += n
	add(p.ofBot, l.bot, n)
	add(p.ofHost, l.host, n)
	add(p.ofLane, l, n)
}

// add keeps no key that counts nothing.
func add[K comparable](counts map[K]int, key K, n int) {
	if counts[key] += n; counts[key] == 0 {
		delete(counts, key)
	}
}

// inFlight is how many places are taken.
func (p *places) inFlight() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}
