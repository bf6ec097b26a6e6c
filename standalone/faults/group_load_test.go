package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestHalfOfAGroupsWebhooksAreInTrouble emits batches of 100 and bursts to four webhooks that are well, first to these only and
// then to four others as well: one hangs for a while, one resets for a while, one is slow, one answers 503 for good. Those that
// are well get everything as if they were alone; the others lose nothing.
func TestHalfOfAGroupsWebhooksAreInTrouble(t *testing.T) {
	share(t)
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_RETRY_SCHEDULE": "3s,3s,3s,3s,3s,3s,3s"}})
	var well, all []*patient
	for i := range 4 {
		well = append(well, newPatient(t, stack, fmt.Sprintf("well-%d", i)))
	}
	groupsTo(t, stack, "warm", well, well)
	alone := groupsTo(t, stack, "alone", well, well)

	hanging, resetting, slow, lost := newPatient(t, stack, "hanging"), newPatient(t, stack, "resetting"), newPatient(t, stack, "slow"), newPatient(t, stack, "lost")
	slow.receiver.Answer(slow.path, slow.receiver.Slow(1200*time.Millisecond, slow.take))
	lost.fallIll(t, "503")
	all = append(all, hanging, resetting, slow)
	all = append(all, well...)
	var outages sync.WaitGroup
	for _, o := range []struct {
		p      *patient
		kind   string
		length time.Duration
	}{{hanging, "hang", 6 * time.Second}, {resetting, "reset", 4 * time.Second}} {
		heal := o.p.fallIll(t, o.kind)
		outages.Go(func() {
			time.Sleep(o.length) // the length of the outage
			heal()
		})
	}
	together := groupsTo(t, stack, "together", all, well, lost)
	outages.Wait()
	t.Logf("p99 from emit to receipt at webhooks that are well: %v alone, %v beside four in trouble", alone, together)
	if soak {
		require.LessOrEqual(t, together, 2*alone+250*time.Millisecond, "alone it was %v", alone)
	}

	emitted, began := groupIDs("together"), time.Now()
	for _, p := range []*patient{hanging, resetting, slow} {
		arrived := reaches(90*time.Second, len(emitted), func() int { return len(p.well()) })
		failed, taken := attempts(t, stack, p.hook.ID)
		t.Logf("%s: %d POSTs, %d failures, %d of %d events taken after %v", p.path, len(p.receiver.Requests(p.path)), failed, taken, len(emitted), time.Since(began).Round(time.Millisecond))
		require.True(t, arrived, "%s has taken %d of %d events", p.path, len(p.well()), len(emitted))
		require.True(t, p.bot.Webhook(t, p.hook.ID).IsActive, p.path)
	}
	failed, _ := attempts(t, stack, slow.hook.ID)
	require.Zero(t, failed, "slow is not failing")
	require.True(t, until(slack*tenWithin, func() bool { return !lost.bot.Webhook(t, lost.hook.ID).IsActive }), "ten failures in a row disable")
	failed, _ = attempts(t, stack, lost.hook.ID)
	t.Logf("%s: disabled after %d failures, %v", lost.path, failed, time.Since(began).Round(time.Millisecond))
	require.Less(t, failed, mostPosts)
	lost.receiver.Answer(lost.path, lost.take)
	lost.bot.SetActive(t, lost.hook.ID, true)
	lost.bot.Recover(t, lost.hook.ID, nil)
	require.Equal(t, "completed", lost.bot.AwaitRecovery(t, lost.hook.ID).State)
	require.Len(t, lost.well(), (len(emitted)+2)/3, "what was missed is recovered")
	t.Logf("%s: recovered after %v", lost.path, time.Since(began).Round(time.Millisecond))

	finished(t, stack, time.Minute)
	for _, p := range well {
		failed, taken := attempts(t, stack, p.hook.ID)
		require.Equal(t, []int{0, 3 * len(emitted)}, []int{failed, taken}, p.path)
		require.Len(t, p.receiver.Requests(p.path), 3*len(emitted), "each event once at %s", p.path)
	}
	for _, p := range append(all, lost) {
		require.Zero(t, p.bot.Webhook(t, p.hook.ID).FailureCount, p.path)
	}
}

const (
	groupRounds = 2
	groupBurst  = 40 // events, each emitted by itself, beside a batch of 100
)

// groupIDs are the ids of the events that groupsTo emits.
func groupIDs(prefix string) (ids []string) {
	for n := range groupRounds * (100 + groupBurst) {
		ids = append(ids, fmt.Sprintf("%s-%d", prefix, n))
	}
	return ids
}

// groupsTo emits batches of 100, each beside a burst, to some webhooks' bots, and one event of three to others as well, waits
// until those that are measured have got all, and returns the p99 of their times from emit to receipt.
func groupsTo(t *testing.T, stack *testkit.Stack, prefix string, to, measured []*patient, seldom ...*patient) time.Duration {
	t.Helper()
	bots, more := botsOf(to), botsOf(seldom)
	ids := groupIDs(prefix)
	at := map[string]time.Time{}
	for round := range groupRounds {
		var events []testkit.Event
		for n := round * (100 + groupBurst); n < (round+1)*(100+groupBurst); n++ {
			e := testkit.Event{ID: ids[n], Type: post, BotIDs: bots}
			if n%3 == 0 {
				e.BotIDs = slices.Concat(bots, more)
			}
			events = append(events, e)
			at[e.ID] = time.Now()
		}
		var emitting sync.WaitGroup
		emitting.Go(func() {
			if _, err := stack.API().EmitPatiently(t.Context(), events[:100]...); err != nil {
				t.Errorf("emit a batch: %v", err)
			}
		})
		emitBurst(t, stack.API(), events[100:])
		emitting.Wait()
	}
	var took []time.Duration
	for _, p := range measured {
		p.arriveOnce(t, time.Minute, ids...)
		for _, r := range p.receiver.Requests(p.path) {
			if emitted, ok := at[r.EventID()]; ok {
				took = append(took, r.At.Sub(emitted))
			}
		}
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}

func botsOf(patients []*patient) (ids []string) {
	for _, p := range patients {
		ids = append(ids, p.bot.ID)
	}
	return ids
}

// TestASecondOfManyEmits offers 5,000 events, in the short form 2,000, within a second, each by a call of its own on as many connections as may be: each
// is answered, in the long form soon and at the first try, be it by a 503 that says when to try again. Those that are refused are emitted again. In
// the end each event has arrived once, and is known by its id.
func TestASecondOfManyEmits(t *testing.T) {
	const connections = 1900 // the API holds 2,000
	events := either(2000, 5000)
	share(t)
	const answeredWithin = 2500 * time.Millisecond // p99, in the long form
	stack := testkit.Start(t, testkit.Options{})
	p := newPatient(t, stack, "second")
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections}}
	t.Cleanup(c.CloseIdleConnections)
	calls := make([]emitCall, events)
	var all sync.WaitGroup
	began := time.Now()
	for n := range events {
		time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(events)))) // the rate of the emits
		all.Go(func() {
			calls[n].emit(c, stack.API(), testkit.Event{ID: fmt.Sprintf("second-%d", n), Type: post, Data: []byte(`{}`), BotIDs: []string{p.bot.ID}})
		})
	}
	offered := time.Since(began)
	all.Wait()
	accepted := time.Since(began)
	refused, tries := 0, 0
	var took []time.Duration
	faults := map[string]int{}
	for n := range calls {
		if calls[n].err != nil {
			faults[calls[n].err.Error()]++
			continue
		}
		require.Equal(t, fmt.Sprintf("second-%d", n), calls[n].receipt.ID)
		tries += len(calls[n].took)
		took = append(took, calls[n].took...)
		if len(calls[n].took) > 1 {
			refused++
		}
	}
	require.Empty(t, faults)
	require.True(t, reaches(time.Minute, events, func() int { return len(p.well()) }), "%d of %d events have arrived", len(p.well()), events)
	arrived := time.Since(began)
	slices.Sort(took)
	t.Logf("%d events offered within %v: %d were refused at first, %d calls in all, answered within p50 %v, p99 %v, at most %v; all accepted after %v, all arrived after %v",
		events, offered.Round(time.Millisecond), refused, tries, took[len(took)/2].Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond),
		took[len(took)-1].Round(time.Millisecond), accepted.Round(time.Millisecond), arrived.Round(time.Millisecond))
	if soak {
		require.Less(t, took[len(took)*99/100], answeredWithin)
	}
	finished(t, stack, time.Minute)
	for id, times := range eventIDs(p.receiver.Requests(p.path)) {
		require.Equal(t, 1, times, "event %s", id)
	}
	failed, taken := attempts(t, stack, p.hook.ID)
	require.Equal(t, []int{0, events}, []int{failed, taken})
	var rows, stored int
	require.NoError(t, stack.Database(t).QueryRow(t.Context(),
		"SELECT (SELECT count(*) FROM deliveries WHERE webhook_id = $1), (SELECT count(*) FROM events)", p.hook.ID).Scan(&rows, &stored))
	require.Equal(t, []int{events, events}, []int{rows, stored})
	for n := 0; n < events; n += events / 50 {
		again := stack.API().Emit(t, testkit.Event{ID: fmt.Sprintf("second-%d", n), Type: post, BotIDs: []string{p.bot.ID}})
		require.Equal(t, testkit.Receipt{ID: again.ID, WorkflowID: calls[n].receipt.WorkflowID, Duplicate: true}, again)
	}
	inOrder(t, stack, p)
}

// emitCall is an event's way to be accepted.
type emitCall struct {
	took    []time.Duration // from when each request was written until its answer
	receipt testkit.Receipt
	err     error
}

// requestTime is what the API gives a client for its request (internal/listen).
const requestTime = 5 * time.Second

// emit emits until the event is accepted, when Retry-After says. In the short form, in which other work may keep both sides from running,
// it also emits again what the API could not read within its time.
func (c *emitCall) emit(client *http.Client, api *testkit.API, event testkit.Event) {
	for deadline := time.Now().Add(2 * time.Minute); ; {
		called := time.Now()
		answer, took, err := timedEmit(client, api, event)
		c.took = append(c.took, took)
		switch {
		case err != nil && (soak || time.Since(called) < requestTime || time.Now().After(deadline)):
			c.err = err
			return
		case err != nil:
			continue
		case answer.Status == http.StatusAccepted:
			c.err = json.Unmarshal(answer.Body, &c.receipt)
			return
		case answer.Status != http.StatusServiceUnavailable || time.Now().After(deadline):
			c.err = fmt.Errorf("status %d after %d calls: %s", answer.Status, len(c.took), answer.Body)
			return
		}
		after, err := strconv.Atoi(answer.Header.Get("Retry-After"))
		if err != nil {
			c.err = fmt.Errorf("a 503 with Retry-After %q: %s", answer.Header.Get("Retry-After"), answer.Body)
			return
		}
		time.Sleep(time.Duration(after) * time.Second) // as long as Retry-After said
	}
}

// timedEmit makes one call, and says how long its answer took from when it had a connection.
func timedEmit(client *http.Client, api *testkit.API, event testkit.Event) (answer testkit.Answered, took time.Duration, err error) {
	var begun time.Time
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { begun = time.Now() }})
	with := *api
	with.Client = client
	answer, err = with.Do(ctx, http.MethodPost, "/api/internal/v1/events", api.ServiceToken, event)
	return answer, time.Since(begun), err
}

// inOrder has one emitter emit events one after the other, each when it has the receipt of the one before, to a webhook whose
// deliveries are paused until all are stored. A receipt says that an event's workflow was started: two that follow at once may be
// stored the other way round, on a busy machine by many. What is stored is sent in its order, up to the queue's window.
func inOrder(t *testing.T, stack *testkit.Stack, p *patient) {
	t.Helper()
	const events = 50
	before := len(p.receiver.Requests(p.path))
	stack.API().PauseBot(t, p.bot.ID)
	var emitted, stored []string
	for n := range events {
		emitted = append(emitted, stack.API().Emit(t, testkit.Event{ID: fmt.Sprintf("order-%d", n), Type: post, BotIDs: []string{p.bot.ID}}).ID)
	}
	require.True(t, until(slack*time.Minute, func() bool {
		var queued []string
		err := stack.Database(t).QueryRow(t.Context(), "SELECT array_agg(event_id ORDER BY due_at, seq) FROM queue WHERE webhook_id = $1", p.hook.ID).Scan(&queued)
		stored = nil
		for _, r := range p.receiver.Requests(p.path)[before:] { // what was sent before the pause was known everywhere
			stored = append(stored, r.EventID())
		}
		for _, id := range queued {
			if !slices.Contains(stored, id) {
				stored = append(stored, id)
			}
		}
		return err == nil && len(stored) == events && len(queued) > windowMost
	}), "%d of %d events stand in the queue", len(stored), events)
	stack.API().ResumeBot(t, p.bot.ID)
	p.arrives(t, emitted...)
	inStore := make([]testkit.Request, len(stored))
	for i, id := range stored {
		inStore[i].Header = http.Header{"Webhook-Id": {id}}
	}
	whenStored, whenSent := overtaken(emitted, inStore), overtaken(stored, p.receiver.Requests(p.path)[before:])
	t.Logf("%d events, one after the other: overtaken by %d at most when they were stored, and by %d when they were sent", events, whenStored, whenSent)
	require.LessOrEqual(t, whenSent, windowMost)
}
