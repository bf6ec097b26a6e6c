package faults_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// windowMost is how many deliveries may be in progress to one webhook, and so by how many later ones an event may be
// overtaken.
const windowMost = 32

// TestReceiversThatAreSlowButWell feeds receivers that always answer 2xx, but late. What is within reach of the widest
// window arrives soon after it is emitted; what is not is a backlog that is worked off, in order, at the window's rate.
func TestReceiversThatAreSlowButWell(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{})
	cases := []*slowReceiver{
		{answersIn: 1200 * time.Millisecond, perSecond: 12, lastWithin: 20 * time.Second},
		{answersIn: either(2*time.Second, 3*time.Second), perSecond: either(7.0, 5), lastWithin: 30 * time.Second},
		// 26.7/s is all that 32 at a time can do.
		{answersIn: 1200 * time.Millisecond, perSecond: 30, lastWithin: time.Minute, drains: either(12.0, 25)},
	}
	if soak {
		cases = append(cases, &slowReceiver{answersIn: 900 * time.Millisecond, perSecond: 30, lastWithin: 20 * time.Second},
			&slowReceiver{answersIn: 3 * time.Second, perSecond: 8, lastWithin: 30 * time.Second})
	}
	var all sync.WaitGroup
	for _, c := range cases {
		c.patient = newPatient(t, stack, fmt.Sprintf("slow-%v-%v", c.answersIn.Milliseconds(), c.perSecond))
		c.receiver.Answer(c.path, c.underWay.counted(c.receiver.Slow(c.answersIn, c.take)))
		all.Go(func() { c.feed(t, stack) })
	}
	all.Wait()
	for _, c := range cases {
		c.judge(t, stack)
	}
}

type slowReceiver struct {
	*patient
	answersIn  time.Duration
	perSecond  float64
	lastWithin time.Duration // of the last emit
	drains     float64       // events a second at the least; 0: no backlog is to build up

	emitted  *stream
	underWay peak
}

// feed emits for half a minute and waits until all has arrived.
func (s *slowReceiver) feed(t *testing.T, stack *testkit.Stack) {
	ctx, cancel := context.WithTimeout(t.Context(), either(30*time.Second, 2*time.Minute))
	defer cancel()
	s.emitted = steadily(ctx, t, stack.API(), s.path[1:], s.perSecond, s.bot.ID)
	reaches(slack*time.Minute, len(s.emitted.ids), func() int { return len(s.well()) })
}

func (s *slowReceiver) judge(t *testing.T, stack *testkit.Stack) {
	requests := s.receiver.Requests(s.path)
	failed, taken := attempts(t, stack, s.hook.ID)
	delays := s.emitted.delays(requests)
	what := fmt.Sprintf("answers in %v, %v events/s", s.answersIn, s.perSecond)
	if len(delays) == 0 {
		t.Errorf("%s: nothing arrived", what)
		return
	}
	last := requests[len(requests)-1].At.Sub(s.emitted.last())
	rate := s.settledRate(requests)
	late := overtaken(acceptedFor(t, stack, s.bot.ID), requests)
	t.Logf("%s: %d events, %d POSTs, %d taken, %d failures; p50 %v, longest wait %v, the last %v after the last emit; %.1f/s, at most %d under way at once, overtaken by %d at most", what,
		len(s.emitted.ids), len(requests), taken, failed, delays[len(delays)/2].Round(time.Millisecond), delays[len(delays)-1].Round(time.Millisecond),
		last.Round(time.Millisecond), rate, s.underWay.most.value(), late)
	if failed > 0 {
		t.Errorf("%s: %d failures", what, failed)
	}
	if missing := s.emitted.missing(s.well()); missing != nil {
		t.Errorf("%s: %d of %d events were taken, then none for minutes; such as %s were not", what, len(s.well()), len(s.emitted.ids), missing)
	}
	if len(requests) > len(s.emitted.ids) {
		t.Errorf("%s: %d POSTs for %d events", what, len(requests), len(s.emitted.ids))
	}
	if last > slack*s.lastWithin {
		t.Errorf("%s: the last event arrived %v after the last emit, which may take %v", what, last, slack*s.lastWithin)
	}
	if late > windowMost {
		t.Errorf("%s: an event was overtaken by %d later ones", what, late)
	}
	// Where it is our own processors that are slow, the window was as wide all the same.
	if s.drains > 0 && rate < s.drains && (soak || s.underWay.most.value() < windowMost*3/4) {
		t.Errorf("%s: %.1f events/s arrived, rather than %v, at most %d at once", what, rate, s.drains, s.underWay.most.value())
	}
}

// settledRate is how many events a second arrived from ten seconds after the first emit, when the window has widened.
func (s *slowReceiver) settledRate(requests []testkit.Request) float64 {
	for i, r := range requests {
		if r.At.Sub(s.emitted.begun()) >= 10*time.Second {
			return float64(len(requests)-1-i) / requests[len(requests)-1].At.Sub(r.At).Seconds()
		}
	}
	return 0
}

// admissionPatience is how long a delivery waits while no place in its webhook's window comes free.
const admissionPatience = 500 * time.Millisecond

// TestABurstStaysDirect emits thousands of events at once to one webhook whose receiver answers in milliseconds: none of
// them ever stands in the webhook's queue, unless our own processors kept places from coming free, and each arrives once.
func TestABurstStaysDirect(t *testing.T) {
	share(t)
	const atOnce = 100
	burst := either(1000, 3000)
	stack := testkit.Start(t, testkit.Options{})
	p := newPatient(t, stack, "burst")
	p.receiver.Answer(p.path, p.receiver.Slow(2*time.Millisecond, p.take))
	stack.API().Emit(t, testkit.Event{ID: "first", Type: post, BotIDs: []string{p.bot.ID}})
	p.receiver.Await(t, p.path, 1)
	before := everQueued(t, stack)
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	began, firstQueued := time.Now(), watchQueue(watching, t, stack, before)
	ids := make(chan string)
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for id := range ids {
				if err := emitPatiently(t.Context(), stack.API(), testkit.Event{ID: id, Type: post, BotIDs: []string{p.bot.ID}}); err != nil {
					t.Errorf("emit %s: %v", id, err)
				}
			}
		})
	}
	for n := range burst {
		ids <- fmt.Sprintf("burst-%d", n)
	}
	close(ids)
	all.Wait()
	emitted := time.Since(began)
	requests := p.receiver.Await(t, p.path, 1+burst)
	arrived := requests[burst].At.Sub(began)
	finished(t, stack, time.Minute)

	failed, taken := attempts(t, stack, p.hook.ID)
	queued := everQueued(t, stack) - before
	t.Logf("%d events at once, accepted within %v: the last arrived after %v; %d POSTs, %d taken, %d failures, %d rows ever queued", burst,
		emitted.Round(time.Millisecond), arrived.Round(time.Millisecond), len(p.receiver.Requests(p.path)), taken, failed, queued)
	stop()
	if first := <-firstQueued; queued > 0 {
		require.GreaterOrEqual(t, first.Sub(began), admissionPatience, "%d deliveries were queued without a wait for a place", queued)
		turns := fewestWithin(admissionPatience, requests, requests[1].At, first)
		t.Logf("our own processors were too slow: of 32 places, %d came free in half a second", turns)
		require.Less(t, turns, 2*windowMost, "%d deliveries were queued although places came free", queued)
	}
	require.Zero(t, failed)
	require.Equal(t, 1+burst, taken)
	for id, times := range eventIDs(p.receiver.Requests(p.path)) {
		require.Equal(t, 1, times, "event %s", id)
	}
	require.Equal(t, 1+burst, p.receiver.Count())
}

// watchQueue looks, until ctx ends, when rows were first written to the queue beyond those before; now if it was never.
func watchQueue(ctx context.Context, t *testing.T, stack *testkit.Stack, before int) <-chan time.Time {
	t.Helper()
	db, first := stack.Database(t), make(chan time.Time, 1)
	go func() {
		for ; ctx.Err() == nil; time.Sleep(20 * time.Millisecond) { // before it looks again
			var rows int
			if db.QueryRow(ctx, everQueuedSQL).Scan(&rows) == nil && rows > before {
				break
			}
		}
		first <- time.Now()
	}()
	return first
}

// fewestWithin is how many requests came at the fewest in a time of that length, between two moments.
func fewestWithin(length time.Duration, requests []testkit.Request, from, to time.Time) int {
	fewest := len(requests)
	for start := from; start.Add(length).Before(to); start = start.Add(length / 10) {
		n := 0
		for _, r := range requests {
			if !r.At.Before(start) && r.At.Before(start.Add(length)) {
				n++
			}
		}
		fewest = min(fewest, n)
	}
	return fewest
}

// TestABurstWaitsForItsReceiver emits more at once than a receiver takes in half a second: what has no place in the
// window stands in the queue, and all arrives, once.
func TestABurstWaitsForItsReceiver(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Apps: []testkit.App{{Args: []string{"api"}}, {Args: []string{"worker"}}, {Args: []string{"worker"}}}})
	p := newPatient(t, stack, "waits")
	var underWay peak
	p.receiver.Answer(p.path, underWay.counted(p.receiver.Slow(500*time.Millisecond, p.take)))
	burst := either(200, 2000)
	var all sync.WaitGroup
	began := time.Now()
	for n := range burst {
		all.Go(func() {
			if err := emitPatiently(t.Context(), stack.API(), testkit.Event{ID: fmt.Sprintf("waits-%d", n), Type: post, BotIDs: []string{p.bot.ID}}); err != nil {
				t.Errorf("emit: %v", err)
			}
		})
	}
	all.Wait()
	reaches(slack*time.Minute, burst, func() int { return len(p.well()) })
	took := time.Since(began)
	finished(t, stack, time.Minute) // the last is recorded after it was taken
	failed, taken := attempts(t, stack, p.hook.ID)
	t.Logf("%d events at once to a receiver that takes 500ms, 2 workers: %d taken after %v, %d failures, %d POSTs, at most %d under way at once, %d rows ever queued", burst,
		len(p.well()), took.Round(time.Millisecond), failed, p.receiver.Count(), underWay.most.value(), everQueued(t, stack))
	require.Len(t, p.well(), burst, "taken")
	require.Zero(t, failed)
	require.Equal(t, burst, taken)
	require.Equal(t, burst, p.receiver.Count(), "each once")
	// Two workers' windows, and the queue's while what was direct comes to its end.
	require.LessOrEqual(t, underWay.most.value(), 3*windowMost)
}

// peak is how many requests are under way at a receiver, now and at most.
type peak struct{ now, most gauge }

// counted counts what an answer answers.
func (p *peak) counted(answer testkit.Answer) testkit.Answer {
	return func(w http.ResponseWriter, r *http.Request) {
		p.most.raise(p.now.add(1))
		defer p.now.add(-1)
		answer(w, r)
	}
}

// gauge is a number that many goroutines change.
type gauge struct {
	mu sync.Mutex
	n  int
}

func (g *gauge) add(n int) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n += n
	return g.n
}

func (g *gauge) raise(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n = max(g.n, n)
}

func (g *gauge) value() int { return g.add(0) }
