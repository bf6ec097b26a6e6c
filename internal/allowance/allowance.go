// Package allowance limits what a bot sends to an unverified endpoint, over all of the bot's webhooks and all processes.
//
// Postgres holds the allowances. An attempt takes one, a round of a queue one for each of its attempts. Requests that arrive
// while a statement runs share the next one, so the cost does not grow with the deliveries. No process takes in advance. A
// verified endpoint costs nothing.
package allowance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/webhook"
)

const (
	// takeTimeout bounds a statement, well within the time of an attempt.
	takeTimeout = 2 * time.Second
	// shortestWait is the shortest wait that a refused caller is given.
	shortestWait = 20 * time.Millisecond
)

// Key is the receiving party of a bot's deliveries: an endpoint's host and port.
type Key struct{ BotID, Endpoint string }

// Limiter grants what may be sent. It is safe for concurrent use.
type Limiter struct {
	pool    *pgxpool.Pool
	rate    webhook.Rate
	queries *db.Queries

	mu      sync.Mutex
	waiting []*request // guarded by mu, as taking
	taking  bool       // a statement runs, after which those who wait are served
}

// request is what is asked for, and the answer.
type request struct {
	key    Key
	wanted int

	granted        int
	freeIn, turnIn time.Duration
	err            error
	done           chan struct{}
}

// New returns a Limiter. A rate that is off limits nothing.
func New(pool *pgxpool.Pool, rate webhook.Rate) *Limiter {
	return &Limiter{pool: pool, rate: rate, queries: db.New()}
}

// IsOff says that nothing is limited.
func (l *Limiter) IsOff() bool { return l.rate.IsOff() }

// TakeOne takes one. A wait above 0: there is none, and one may be after that time.
func (l *Limiter) TakeOne(ctx context.Context, k Key) (wait time.Duration, err error) {
	r, err := l.take(ctx, k, 1)
	if err != nil || r.granted == 1 {
		return 0, err
	}
	return max(r.freeIn, shortestWait), nil
}

// TakeForQueue takes as many of those wanted as there are. Where they are fewer, the queue is to come again after wait: the
// turns of all queues that are refused follow each other.
func (l *Limiter) TakeForQueue(ctx context.Context, k Key, wanted int) (granted int, wait time.Duration, err error) {
	r, err := l.take(ctx, k, wanted)
	if err != nil || r.granted == wanted {
		return wanted, 0, err
	}
	return r.granted, max(r.turnIn, shortestWait), nil
}

// FreeIn says when there is one, 0 for now. It takes none.
func (l *Limiter) FreeIn(ctx context.Context, k Key) (time.Duration, error) {
	if l.IsOff() {
		return 0, nil
	}
	paidFor, err := l.queries.AllowancePaidFor(ctx, l.pool, db.AllowancePaidForParams{BotID: k.BotID, Endpoint: k.Endpoint})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return max(0, l.freeIn(paidFor)), err
}

// freeIn is when one is free where what was sent is paid for so many seconds from now: of more than the burst, the clock went back.
func (l *Limiter) freeIn(paidFor float64) time.Duration {
	return seconds(min(paidFor, float64(l.rate.Burst)/l.rate.PerSecond) - float64(l.rate.Burst-1)/l.rate.PerSecond)
}

func seconds(s float64) time.Duration {
	return time.Duration(math.Ceil(s*1e6)) * time.Microsecond
}

func (l *Limiter) take(ctx context.Context, k Key, wanted int) (*request, error) {
	r := &request{key: k, wanted: wanted, done: make(chan struct{})}
	if l.join(r) {
		go l.serve()
	}
	select {
	case <-r.done:
		return r, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// join adds a request to those that wait, and says whether nobody serves them yet.
func (l *Limiter) join(r *request) (first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, r)
	first = !l.taking
	l.taking = true
	return first
}

// serve serves those who wait, all of them together, until nobody does.
func (l *Limiter) serve() {
	for {
		together := l.next()
		if together == nil {
			return
		}
		err := l.share(together)
		for _, r := range together {
			r.err = err
			close(r.done)
		}
	}
}

func (l *Limiter) next() []*request {
	l.mu.Lock()
	defer l.mu.Unlock()
	together := l.waiting
	l.waiting = nil
	l.taking = together != nil
	return together
}

// share takes what is asked for and shares it out in the order in which it was asked for.
func (l *Limiter) share(together []*request) error {
	ctx, cancel := context.WithTimeout(context.Background(), takeTimeout)
	defer cancel()
	wanted := map[Key]int{}
	for _, r := range together {
		wanted[r.key] += r.wanted
	}
	in := db.AllowanceRequest{Burst: int32(l.rate.Burst), PerSecond: l.rate.PerSecond}
	for _, k := range slices.SortedFunc(maps.Keys(wanted), func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.BotID, b.BotID), cmp.Compare(a.Endpoint, b.Endpoint))
	}) {
		in.BotIDs, in.Endpoints, in.Wanted = append(in.BotIDs, k.BotID), append(in.Endpoints, k.Endpoint), append(in.Wanted, int32(wanted[k]))
	}
	grants, err := l.queries.TakeAllowances(ctx, l.pool, in)
	if err != nil {
		return fmt.Errorf("take from the allowance of unverified endpoints: %w", err)
	}
	byKey := make(map[Key]*db.AllowanceGrant, len(grants))
	for i, g := range grants {
		byKey[Key{g.BotID, g.Endpoint}] = &grants[i]
	}
	for _, r := range together {
		g := byKey[r.key]
		r.granted = min(r.wanted, int(g.Granted))
		g.Granted -= int32(r.granted)
		r.freeIn, r.turnIn = l.freeIn(g.PaidFor), seconds(g.TurnIn)
	}
	return nil
}
