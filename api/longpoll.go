package api

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/openfiles"
	"github.com/mathub/webhooks/internal/problem"
)

const (
	// lookEvery is how often Postgres is asked for new events while calls wait for some: one question for all of them. A
	// notification by Postgres would come sooner, and cost each accepted event: committing one takes a lock that the whole
	// cluster has once.
	lookEvery = 250 * time.Millisecond

	// lookTimeout bounds a look at a database that does not answer.
	lookTimeout = 5 * time.Second

	// audiencesAtOnce is how many new events are compared with the calls that wait. With more, all of them are woken.
	audiencesAtOnce = 500

	// maxWaitingPerBot bounds the calls of a bot that wait; it needs one.
	maxWaitingPerBot = 10
)

// maxWaiting bounds the calls that wait in a process, to half of the connections that a listener holds, 1,000 or less.
var maxWaiting = openfiles.Connections() / 2

// waiter is a call that waits for an event that concerns its bot, is of its types (nil: any), and comes after a
// position.
type waiter struct {
	botID string
	types []string
	after int64
	since time.Time
	woken chan struct{} // gets one when there may be one
	early chan struct{} // closed when another needs its place
}

func (w *waiter) wake() {
	select {
	case w.woken <- struct{}{}:
	default: // it was woken already
	}
}

func (w *waiter) wants(e db.ReadAudiencesRow) bool {
	return e.Position > w.after &&
		(e.BotIds == nil || slices.Contains(e.BotIds, w.botID)) &&
		(w.types == nil || slices.Contains(w.types, e.Type))
}

// waiting are all calls of the process that wait.
type waiting struct {
	events   *db.EventReader
	stopping <-chan struct{}

	mu      sync.Mutex
	calls   map[*waiter]struct{}
	ofBot   map[string]int
	looking bool
	seen    int64 // the position up to which waiting calls were woken
}

func newWaiting(events *db.EventReader, stopping <-chan struct{}) *waiting {
	return &waiting{events: events, stopping: stopping, calls: map[*waiter]struct{}{}, ofBot: map[string]int{}}
}

// await returns when there may be something for w or, with over, when the deadline has passed, the process is stopping,
// or another call needs the place.
func (a *waiting) await(ctx context.Context, w waiter, deadline time.Time) (over bool, err error) {
	left := time.Until(deadline)
	if left <= 0 {
		return true, nil
	}
	w.since, w.woken, w.early = time.Now(), make(chan struct{}, 1), make(chan struct{})
	if err := a.enter(&w); err != nil {
		return true, err
	}
	defer a.leave(&w)
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-w.woken:
		return false, nil
	case <-timer.C:
		return true, nil
	case <-w.early:
		return true, nil
	case <-a.stopping:
		return true, nil
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

// enter refuses a bot only what it has too many of. In a full process, the longest wait of the bot with the most ends early,
// so that any number of bots leave room for the next.
func (a *waiting) enter(w *waiter) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ofBot[w.botID] >= maxWaitingPerBot {
		return &problem.Error{Kind: problem.TooManyRequests, Detail: fmt.Sprintf("This bot has %d long polls open, the most allowed. Close one, or call without wait.", maxWaitingPerBot)}
	}
	if len(a.calls) >= maxWaiting {
		a.endLongest(a.mostWaiting(w.botID))
	}
	if !a.looking {
		a.looking, a.seen = true, w.after
		go a.look()
	}
	a.calls[w] = struct{}{}
	a.ofBot[w.botID]++
	if w.after < a.seen { // it read before the others were woken
		w.wake()
	}
	return nil
}

func (a *waiting) leave(w *waiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(w)
}

// mostWaiting is the bot with the most waits: the given one where no other has more than it has.
func (a *waiting) mostWaiting(botID string) string {
	for bot, n := range a.ofBot {
		if n > a.ofBot[botID] {
			botID = bot
		}
	}
	return botID
}

// endLongest ends the longest wait of a bot.
func (a *waiting) endLongest(botID string) {
	var longest *waiter
	for w := range a.calls {
		if w.botID == botID && (longest == nil || w.since.Before(longest.since)) {
			longest = w
		}
	}
	close(longest.early)
	a.remove(longest)
}

// remove is for who holds mu.
func (a *waiting) remove(w *waiter) {
	if _, waits := a.calls[w]; !waits { // it was ended early
		return
	}
	delete(a.calls, w)
	if a.ofBot[w.botID]--; a.ofBot[w.botID] == 0 {
		delete(a.ofBot, w.botID)
	}
}

// look asks for new events as long as somebody waits.
func (a *waiting) look() {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-a.stopping: // nobody waits from now on
			return
		}
		a.mu.Lock()
		if len(a.calls) == 0 {
			a.looking = false
			a.mu.Unlock()
			return
		}
		seen := a.seen
		a.mu.Unlock()
		last, fresh, err := a.since(seen)
		a.mu.Lock()
		a.seen = last
		for w := range a.calls {
			// In an outage each meets the error by itself.
			if err != nil || len(fresh) >= audiencesAtOnce && w.after < last || slices.ContainsFunc(fresh, w.wants) {
				w.wake()
			}
		}
		a.mu.Unlock()
	}
}

func (a *waiting) since(seen int64) (last int64, fresh []db.ReadAudiencesRow, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookTimeout)
	defer cancel()
	state, err := a.events.State(ctx, 0)
	switch {
	case err != nil:
		return seen, nil, err
	case state.Last <= seen: // less where a failover has lost events
		return state.Last, nil, nil
	}
	fresh, err = a.events.Audiences(ctx, seen, state.Last, audiencesAtOnce)
	return state.Last, fresh, err
}
