// Package linearizable_test runs operations on webhooks at once, against a real database and through the product's services, and
// checks with porcupine that what each was answered is what one after another, in some order that keeps to the clock, would
// have been answered.
//
// The short form runs with every test. MATHUB_SOAK=1, as `make soak` sets it, makes it long.
package linearizable_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

var (
	soak      = os.Getenv("MATHUB_SOAK") != ""
	schedules = flag.Int("schedules", 0, "how many schedules to run: 300, and 100,000 in the long form, unless told otherwise")
)

const (
	// atOnce is how many schedules run at once, so that the recorders' transactions hold attempts of several webhooks.
	atOnce = 48
	// page is how many schedules run before the database is emptied.
	page = 2000
	// clients of a schedule, and how many turns each has.
	clients, turns = 3, 5
	// patience is how long one history may be checked for: it takes less than a millisecond.
	patience = 20 * time.Second
)

const (
	allEvents = "post.created thread.created"
	fewEvents = "post.created"
)

// schedule is what some clients do with a webhook at once, and what they are answered.
type schedule struct {
	subject
	seed  uint64
	first state

	began      time.Time
	mu         sync.Mutex
	operations []porcupine.Operation
	attempts   []attempt
}

func newSchedule(seed uint64) *schedule {
	r := rand.New(rand.NewPCG(seed, 0))
	s := &schedule{subject: subject{uuid.Must(uuid.NewV7()), webhook.NewID()}, seed: seed}
	s.first = state{Exists: true, view: view{Active: true, URL: "https://example.com/a", Events: allEvents}}
	if r.IntN(4) > 0 { // near its end, as histories are short
		count := int32(5 + r.IntN(5))
		s.first.Queued, s.first.Count, s.first.Early, s.first.Run = true, count, int32(1+r.IntN(mostEarly)), 1
	}
	return s
}

// run has the clients take their turns, and then reads the webhook.
func (s *schedule) run(ctx context.Context, p *product) error {
	s.began = time.Now()
	errs := make([]error, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			c := &client{schedule: s, product: p, number: i, random: rand.New(rand.NewPCG(s.seed, uint64(i)+1))}
			for range turns {
				if errs[i] = c.turn(ctx); errs[i] != nil {
					return
				}
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	_, err := (&client{schedule: s, product: p, number: clients}).do(ctx, operation{Kind: get})
	return err
}

// client does one operation after another, beside others.
type client struct {
	*schedule
	product *product
	number  int
	random  *rand.Rand
	read    view // what it has prepared its attempts from
}

// do does an operation and notes when, and what it was answered.
func (c *client) do(ctx context.Context, op operation) (result, error) {
	recorder := c.number % len(c.product.recorders)
	called := time.Since(c.began)
	out, err := c.product.do(ctx, c.subject, op, recorder)
	returned := time.Since(c.began)
	if err != nil {
		return out, fmt.Errorf("%s, seed %d: %w", op.Kind, c.seed, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.operations = append(c.operations, porcupine.Operation{ClientId: c.number, Input: op, Call: int64(called), Output: out, Return: int64(returned)})
	return out, nil
}

// turn is an operation that is drawn, or an attempt, which are two.
func (c *client) turn(ctx context.Context) (err error) {
	switch n := c.random.IntN(100); {
	case n < 50:
		return c.attempt(ctx)
	case n < 55:
		return c.again(ctx)
	case n < 60:
		_, err = c.do(ctx, operation{Kind: get})
	case n < 83:
		_, err = c.do(ctx, operation{Kind: update, Change: c.change()})
	case n < 86:
		_, err = c.do(ctx, operation{Kind: suspend})
	case n < 90:
		_, err = c.do(ctx, operation{Kind: resume})
	case n < 96:
		_, err = c.do(ctx, operation{Kind: recoverMissed})
	case n < 98:
		_, err = c.do(ctx, operation{Kind: cancelRecovery})
	default:
		_, err = c.do(ctx, operation{Kind: remove})
	}
	return err
}

// attempt prepares an attempt, now or some turns ago, and records it.
func (c *client) attempt(ctx context.Context) error {
	if c.random.IntN(3) > 0 {
		out, err := c.do(ctx, operation{Kind: prepare})
		if err != nil {
			return err
		}
		c.read = out.View
	}
	a := attempt{
		Success: c.random.IntN(6) == 0, Retried: c.random.IntN(2) == 0, InQueue: c.random.IntN(2) == 0,
		Generation: c.read.Generation, Event: webhook.NewID(),
	}
	if c.read.Count > 0 {
		a.Run = c.read.Run
	}
	a.Delivery = webhook.DeliveryID(time.Now(), webhook.AttemptKey(a.Event, c.id, 1))
	c.mu.Lock()
	a.Number = len(c.attempts)
	c.attempts = append(c.attempts, a)
	c.mu.Unlock()
	_, err := c.do(ctx, operation{Kind: record, Attempt: a})
	return err
}

// again records an attempt that was recorded, or is recorded by another at this moment, as after a crash.
func (c *client) again(ctx context.Context) error {
	c.mu.Lock()
	attempts := slices.Clone(c.attempts)
	c.mu.Unlock()
	if len(attempts) == 0 {
		return nil
	}
	a := attempts[c.random.IntN(len(attempts))]
	if c.random.IntN(3) == 0 { // the receiver answered otherwise the second time
		a.Success = !a.Success
	}
	_, err := c.do(ctx, operation{Kind: record, Attempt: a})
	return err
}

// change draws a PATCH.
func (c *client) change() change {
	note := []string{"", "too many failures", "asked by mail"}[c.random.IntN(3)]
	switch c.random.IntN(9) {
	case 0, 1:
		return change{By: "owner", Enable: true}
	case 2:
		return change{By: "owner", Disable: true}
	case 3:
		return change{By: "operator", Enable: true}
	case 4, 5:
		return change{By: "operator", Disable: true, Note: note}
	case 6:
		return change{By: "owner", URL: "https://example.com/" + []string{"a", "b"}[c.random.IntN(2)], Enable: c.random.IntN(3) == 0}
	case 7:
		return change{By: "owner", Events: []string{allEvents, fewEvents}[c.random.IntN(2)]}
	}
	return change{By: "owner", Secret: []string{"a-secret-of-some-length", "b-secret-of-some-length"}[c.random.IntN(2)]}
}

// check says why no order explains what the operations were answered; "": one does.
func (s *schedule) check() string {
	if len(s.attempts) > mostDeliveries {
		return "too many attempts for the model"
	}
	switch porcupine.CheckOperationsTimeout(model(s.first), s.operations, patience) {
	case porcupine.Ok:
		return ""
	case porcupine.Unknown:
		return fmt.Sprintf("not checked within %v:\n%s", patience, s)
	}
	return fmt.Sprintf("not linearizable:\n%s", s)
}

// String is the history, in the order in which the operations were called.
func (s *schedule) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "seed %d, at first %+v\n", s.seed, s.first)
	slices.SortFunc(s.operations, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, op := range s.operations {
		fmt.Fprintf(&out, "client %d, %v to %v: %v\n    %v\n", op.ClientId, time.Duration(op.Call), time.Duration(op.Return), op.Input, op.Output)
	}
	return out.String()
}

// TestCountersAreLinearizable: whatever is done with a webhook at once, by its attempts, its owner and operators, each is answered
// as if one had followed the other.
func TestCountersAreLinearizable(t *testing.T) {
	most := *schedules
	if most == 0 {
		most = 300
		if soak {
			most = 100_000
		}
	}
	p, began := newProduct(t), time.Now()
	var failed atomic.Bool
	operations, overlapping := 0, 0
	for done := 0; done < most && !failed.Load(); done += page {
		all := make([]*schedule, min(page, most-done))
		for i := range all {
			all[i] = newSchedule(uint64(done + i + 1))
		}
		require.NoError(t, p.add(t.Context(), all))
		work := make(chan *schedule)
		var running sync.WaitGroup
		for range atOnce {
			running.Go(func() {
				for s := range work {
					if failed.Load() {
						continue
					}
					if err := s.run(t.Context(), p); err != nil {
						failed.Store(true)
						t.Error(err)
					} else if violation := s.check(); violation != "" && !failed.Swap(true) {
						t.Error(violation)
					}
				}
			})
		}
		for _, s := range all {
			work <- s
		}
		close(work)
		running.Wait()
		for _, s := range all {
			operations, overlapping = operations+len(s.operations), overlapping+s.overlapping()
		}
		require.NoError(t, p.clear(t.Context()))
	}
	t.Logf("%d schedules, %d operations, of which %d met another, in %v", most, operations, overlapping, time.Since(began).Round(time.Millisecond))
	if !failed.Load() {
		require.Greater(t, overlapping, operations/4, "the operations run one after another, and show nothing")
	}
}

// overlapping is how many operations began before another had ended.
func (s *schedule) overlapping() (n int) {
	for i, a := range s.operations {
		if slices.ContainsFunc(s.operations[i+1:], func(b porcupine.Operation) bool { return a.Call < b.Return && b.Call < a.Return }) {
			n++
		}
	}
	return n
}
