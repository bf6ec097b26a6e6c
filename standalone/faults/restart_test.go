package faults_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/testkit"
)

const (
	// calm is how long events flow before an outage begins, and after the last has ended.
	calm = 3 * time.Second
	// restartSchedule has the first retry come sooner than the default's half minute, and, as that, after the longest outage.
	restartSchedule = "16s,16s,16s,16s,16s,16s,16s"
	// retriesLast is how long after an outage the last retry of its failures has come: 16 s and a fifth, behind what waits.
	retriesLast = 40 * time.Second
)

// The promise for a receiver that is down for good.
const (
	tenWithin      = 20 * time.Second // ten events that fail at once
	disabledWithin = 60 * time.Second // 20 events/s, whichever way they fail
	mostPosts      = 40
)

// The kinds of outages.
var kinds = []string{"503", "late 503", "refused", "reset", "hang", "hang, then cut"}

// flow is a rate of events, and the outages of the receivers that get them: of each length, one of each kind.
type flow struct {
	perSecond float64
	lengths   []time.Duration
	kinds     []string
}

// TestAReceiverRestarts takes receivers away for 2, 6 and 12 s, in every way, while events flow to them from several
// workers: none is disabled, and each gets every event. Others go for good: they are disabled soon, and at small cost.
func TestAReceiverRestarts(t *testing.T) {
	share(t)
	const s = time.Second
	lengths := []time.Duration{2 * s, 6 * s, 12 * s}
	type run struct {
		workers int
		forGood bool // others go for good beside them
		flows   []flow
	}
	runs := []run{
		{1, true, []flow{{12, lengths[1:2], kinds}}},
		{3, true, []flow{{1, lengths[2:], kinds}, {12, []time.Duration{2 * s, 12 * s}, kinds}, {50, lengths[:1], []string{"503", "hang"}}}},
	}
	if soak {
		runs = nil
		for _, workers := range []int{1, 3, 10} {
			runs = append(runs, run{workers, true, []flow{{1, lengths, kinds}, {12, lengths, kinds}}})
			for _, length := range lengths { // no more at once than two cores can do
				runs = append(runs, run{workers, false, []flow{{50, []time.Duration{length}, kinds}}})
			}
		}
	}
	for _, r := range runs {
		t.Run(fmt.Sprintf("%d workers", r.workers), func(t *testing.T) {
			share(t)
			receiversRestart(t, r.workers, r.forGood, r.flows)
		})
	}
}

func receiversRestart(t *testing.T, workers int, forGood bool, flows []flow) {
	apps := []testkit.App{{Args: []string{"api"}}}
	for range workers {
		apps = append(apps, testkit.App{Args: []string{"worker"}})
	}
	stack := testkit.Start(t, testkit.Options{
		Apps: apps, Env: map[string]string{"MATHUB_RETRY_SCHEDULE": restartSchedule},
		// Eleven processes and Temporal ask for more than the default of 100.
		Servers: servers.Options{Postgres: map[string]string{"max_connections": "500"}},
	})
	well := newPatient(t, stack, "well") // and stays so: that others fail is their doing
	var outages []*outageOf
	for _, f := range flows {
		outages = append(outages, f.outages(t, stack)...)
	}
	var lost []*lostReceiver
	if forGood {
		for _, kind := range []string{"503", "hang"} {
			lost = append(lost, &lostReceiver{patient: newPatient(t, stack, "lost-"+kind), kind: kind, within: disabledWithin})
		}
		lost = append(lost, &lostReceiver{patient: newPatient(t, stack, "ten"), kind: "503", within: tenWithin})
	}

	watching, stop := context.WithCancel(t.Context())
	worst := watch(watching, t, stack)
	var running, flowing sync.WaitGroup
	for _, f := range flows {
		flowing.Go(func() { f.emit(t, stack, outages, well) })
	}
	for _, o := range outages {
		running.Go(func() { o.happen(t, stack) })
	}
	if forGood {
		running.Go(func() { feedLost(t, stack, lost[:2]) })
		running.Go(func() {
			flowing.Wait() // twenty seconds are little more than the pauses between ten attempts
			lost[2].fail(t, stack)
		})
	}
	flowing.Wait()
	running.Wait()
	for _, o := range outages {
		until(time.Until(o.ended.Add(slack*retriesLast)), func() bool { return o.emitted.missing(o.well()) == nil })
	}
	stop()
	most := <-worst
	for _, o := range outages {
		o.judge(t, stack, workers, most[o.hook.ID])
	}
	for _, g := range lost {
		g.judge(t, workers)
	}
	failed, _ := attempts(t, stack, well.hook.ID)
	require.Zero(t, failed, "one that is well fails nothing")
	survived(t, stack)
}

// outages are the flow's, each of a receiver of its own.
func (f flow) outages(t *testing.T, stack *testkit.Stack) (outages []*outageOf) {
	t.Helper()
	for _, length := range f.lengths {
		for _, kind := range f.kinds {
			name := strings.NewReplacer(" ", "-", ",", "").Replace(fmt.Sprintf("%s-%v-%v", kind, length, f.perSecond))
			outages = append(outages, &outageOf{patient: newPatient(t, stack, name), kind: kind, length: length, perSecond: f.perSecond})
		}
	}
	return outages
}

// emit emits the flow's events until its longest outage is over.
func (f flow) emit(t *testing.T, stack *testkit.Stack, outages []*outageOf, also *patient) {
	bots := []string{also.bot.ID}
	for _, o := range outages {
		if o.perSecond == f.perSecond {
			bots = append(bots, o.bot.ID)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*calm+slices.Max(f.lengths))
	defer cancel()
	emitted := steadily(ctx, t, stack.API(), fmt.Sprintf("rate-%v", f.perSecond), f.perSecond, bots...)
	for _, o := range outages {
		if o.perSecond == f.perSecond {
			o.emitted = emitted
		}
	}
}

// watch polls the failureCount of all webhooks until ctx ends, and then sends the highest of each.
func watch(ctx context.Context, t *testing.T, stack *testkit.Stack) <-chan map[string]int {
	worst := make(chan map[string]int, 1)
	go func() {
		most := map[string]int{}
		for ; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) { // the rate of the polls
			all, err := failureCounts(ctx, t, stack)
			if err != nil && ctx.Err() == nil {
				t.Errorf("read failureCounts: %v", err)
			}
			for id, failures := range all {
				most[id] = max(most[id], failures)
			}
		}
		worst <- most
	}()
	return worst
}

// outageOf is an outage of a patient, at a rate of events.
type outageOf struct {
	*patient
	kind      string
	length    time.Duration
	perSecond float64
	emitted   *stream
	felt      bool
	ended     time.Time
}

func (o *outageOf) happen(t *testing.T, stack *testkit.Stack) {
	time.Sleep(calm) // it is healthy for so long before
	before := len(o.receiver.Requests(o.path))
	heal := o.fallIll(t, o.kind)
	time.Sleep(o.length) // the length of the outage
	// On a busy machine, nothing may have been sent meanwhile. Then it begins with the first attempt, which fails.
	o.felt = until(slack*calm, func() bool { return o.isFelt(t, stack, before) })
	heal()
	o.ended = time.Now()
}

// isFelt says whether an attempt has met the outage, before which so many had arrived: it hangs, or has failed. One that
// hangs need not fail: it is answered in the end, or, where a connection that had served is cut, made once more at a new one.
func (o *outageOf) isFelt(t *testing.T, stack *testkit.Stack, before int) bool {
	if strings.HasPrefix(o.kind, "hang") {
		return len(o.receiver.Requests(o.path)) > before
	}
	counts, err := failureCounts(t.Context(), t, stack)
	if err != nil {
		t.Errorf("read failureCounts: %v", err)
	}
	return counts[o.hook.ID] > 0
}

func (o *outageOf) judge(t *testing.T, stack *testkit.Stack, workers, most int) {
	failed, recordedTaken := attempts(t, stack, o.hook.ID)
	taken := o.well()
	hook := o.bot.Webhook(t, o.hook.ID)
	what := fmt.Sprintf("%s for %v at %v events/s, %d workers", o.kind, o.length, o.perSecond, workers)
	t.Logf("%s: %d events, %d POSTs arrived, %d failures recorded, failureCount at most %d, %d events taken (%d recorded), active %v",
		what, len(o.emitted.ids), len(o.receiver.Requests(o.path)), failed, most, len(taken), recordedTaken, hook.IsActive)
	if most >= 10 || !hook.IsActive || hook.DisabledAt != nil {
		t.Errorf("%s: failureCount rose to %d, and the webhook's isActive is %v, of %d failures", what, most, hook.IsActive, failed)
		return
	}
	posts := len(o.receiver.Requests(o.path))
	cut := o.kind == "hang, then cut" && posts == len(o.emitted.ids) // what hung got no answer, so it has been made again
	if !o.felt || cut || failed == 0 && !strings.HasPrefix(o.kind, "hang") {
		t.Errorf("%s: the outage was not felt", what)
	}
	if missing := o.emitted.missing(taken); missing != nil {
		t.Errorf("%s: %d of %d events were taken within %v of the outage's end; such as %s were not", what, len(taken), len(o.emitted.ids), slack*retriesLast, missing)
	}
}

// lostReceiver is an outage that does not end.
type lostReceiver struct {
	*patient
	kind     string
	within   time.Duration
	disabled time.Time
	emitted  int
}

// feedLost emits 20 events a second to receivers that never answer well, until all are disabled.
func feedLost(t *testing.T, stack *testkit.Stack, lost []*lostReceiver) {
	ctx, cancel := context.WithCancel(t.Context())
	var disabled sync.WaitGroup
	var bots []string
	for _, g := range lost {
		g.fallIll(t, g.kind)
		bots = append(bots, g.bot.ID)
		disabled.Go(func() { g.awaitDisabled(t) })
	}
	go func() {
		defer cancel()
		disabled.Wait()
	}()
	emitted := steadily(ctx, t, stack.API(), "lost", 20, bots...)
	for _, g := range lost {
		g.emitted = len(emitted.ids)
		awaitQuiet(g.receiver, g.path) // what was in progress when it was disabled
	}
}

// fail emits ten events one by one.
func (g *lostReceiver) fail(t *testing.T, stack *testkit.Stack) {
	g.fallIll(t, g.kind)
	var all sync.WaitGroup
	for n := range 10 {
		all.Go(func() {
			if err := emitPatiently(t.Context(), stack.API(), testkit.Event{ID: fmt.Sprintf("%s-%d", g.path[1:], n), Type: post, BotIDs: []string{g.bot.ID}}); err != nil {
				t.Errorf("emit the number %d: %v", n, err)
			}
		})
		time.Sleep(300 * time.Millisecond) // the rate of the emits
	}
	all.Wait()
	g.emitted = 10
	g.awaitDisabled(t)
}

// awaitDisabled notes when the webhook was disabled; it waits for longer than that may take.
func (g *lostReceiver) awaitDisabled(t *testing.T) {
	until(slack*disabledWithin+10*time.Second, func() bool {
		hook := g.bot.Webhook(t, g.hook.ID)
		if hook.DisabledAt == nil {
			return false
		}
		g.disabled = *hook.DisabledAt
		return true
	})
}

// slack is how many times as long everything may take in the short form, which runs on busy machines as well: each round of a
// queue is three steps of the engine.
var slack = either[time.Duration](4, 1)

func (g *lostReceiver) judge(t *testing.T, workers int) {
	requests := g.receiver.Requests(g.path)
	what := fmt.Sprintf("%s for good, %d workers, %d events", g.kind, workers, g.emitted)
	if g.disabled.IsZero() {
		t.Errorf("%s: not disabled, after %d POSTs; failureCount %d", what, len(requests), g.bot.Webhook(t, g.hook.ID).FailureCount)
		return
	}
	took := g.disabled.Sub(requests[0].At)
	t.Logf("%s: disabled %v after the first POST, %d POSTs", what, took.Round(100*time.Millisecond), len(requests))
	if took > slack*g.within || len(requests) >= mostPosts {
		t.Errorf("%s: disabled after %v, which may take %v, and %d POSTs, which have to be fewer than %d", what, took, slack*g.within, len(requests), mostPosts)
	}
}

// awaitQuiet waits until no POST has come to a path for longer than one may take.
func awaitQuiet(r *testkit.Receiver, path string) {
	last, at := len(r.Requests(path)), time.Now()
	until(30*time.Second, func() bool {
		if n := len(r.Requests(path)); n != last {
			last, at = n, time.Now()
		}
		return time.Since(at) > 6*time.Second
	})
}
