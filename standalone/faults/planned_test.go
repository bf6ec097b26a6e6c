package faults_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"

	"github.com/mathub/webhooks/standalone/testkit"
)

const (
	// plannedStep is the first retry's delay, which may be a fifth shorter or longer.
	plannedStep = 8 * time.Second
	// wokenWithin is how late a planned attempt may come when whoever was to make it is lost.
	wokenWithin = 45 * time.Second
)

// TestNextAttemptAt: a delivery's nextAttemptAt is when the next attempt comes, and null when none does.
func TestNextAttemptAt(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_RETRY_SCHEDULE": fmt.Sprintf("%v,1h", plannedStep)}})
	cases := []struct {
		name  string
		begin func(t *testing.T, stack *testkit.Stack) (judge func(t *testing.T))
	}{
		{"what comes in is delivered although its workflow was ended", queueOutlivesItsWorkflow},
		{"of an active webhook, the attempt comes then", plannedIsMade},
		{"null once the owner has disabled the webhook", plannedIsDropped},
		{"null once a redelivery was taken", plannedIsOvertaken},
		{"null once ten failures have disabled the webhook", plannedIsDroppedByFailures},
		{"the attempt comes although an operator ended its workflow", plannedOutlivesItsWorkflow},
	}
	var judges []func(t *testing.T)
	for _, c := range cases { // they wait side by side
		judges = append(judges, c.begin(t, stack))
	}
	for i, c := range cases {
		t.Run(c.name, judges[i])
	}
}

// failing is a webhook whose receiver answers 503, and an event that failed there once.
func failing(t *testing.T, stack *testkit.Stack, name string) (*patient, testkit.Delivery) {
	t.Helper()
	p := newPatient(t, stack, name)
	p.receiver.Answer(p.path, testkit.Status(http.StatusServiceUnavailable))
	stack.API().Emit(t, testkit.Event{ID: name, Type: post, BotIDs: []string{p.bot.ID}})
	return p, p.bot.AwaitDeliveries(t, p.hook.ID, 1)[0]
}

// nextAttemptAt is what the API says of a delivery; nil: no attempt is planned.
func nextAttemptAt(t *testing.T, stack *testkit.Stack, p *patient, deliveryID string) *time.Time {
	t.Helper()
	answer, err := stack.API().Do(t.Context(), http.MethodGet, "/api/bot/v1/webhooks/"+p.hook.ID+"/deliveries/"+deliveryID, p.bot.Key, nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.Status, "%s", answer.Body)
	var delivery struct {
		NextAttemptAt   *time.Time `json:"nextAttemptAt"`
		NextAttemptNote string     `json:"nextAttemptNote"`
	}
	require.NoError(t, json.Unmarshal(answer.Body, &delivery))
	require.Empty(t, delivery.NextAttemptNote)
	return delivery.NextAttemptAt
}

// planned waits until the next attempt is known.
func planned(t *testing.T, stack *testkit.Stack, p *patient, d testkit.Delivery) time.Time {
	t.Helper()
	var at *time.Time
	require.True(t, until(slack*time.Minute, func() bool { at = nextAttemptAt(t, stack, p, d.ID); return at != nil }), "no attempt is planned")
	return *at
}

func plannedIsMade(t *testing.T, stack *testkit.Stack) (judge func(t *testing.T)) {
	p, d := failing(t, stack, "made")
	at := planned(t, stack, p, d)
	p.receiver.Answer(p.path, p.take)
	return func(t *testing.T) {
		requests := p.receiver.Await(t, p.path, 2)
		late := requests[1].At.Sub(at)
		t.Logf("failed at %v, the next attempt was announced for %v later and came %v after that", requests[0].At.Format(time.TimeOnly), at.Sub(requests[0].At), late)
		require.Greater(t, late, -time.Second, "an attempt came before it was announced")
		require.Less(t, late, slack*5*time.Second, "an attempt came long after it was announced")
		p.bot.AwaitDeliveries(t, p.hook.ID, 2)
		for _, d := range p.bot.Deliveries(t, p.hook.ID) {
			require.Nil(t, nextAttemptAt(t, stack, p, d.ID), "attempt %d", d.Attempt)
		}
	}
}

func plannedIsDropped(t *testing.T, stack *testkit.Stack) (judge func(t *testing.T)) {
	p, d := failing(t, stack, "dropped")
	at := planned(t, stack, p, d)
	p.bot.SetActive(t, p.hook.ID, false)
	return func(t *testing.T) {
		neverComes(t, stack, p, at, 1)
	}
}

func plannedIsDroppedByFailures(t *testing.T, stack *testkit.Stack) (judge func(t *testing.T)) {
	p, d := failing(t, stack, "ten")
	planned(t, stack, p, d)
	for n := range 9 {
		stack.API().Emit(t, testkit.Event{ID: fmt.Sprintf("ten-%d", n), Type: post, BotIDs: []string{p.bot.ID}})
	}
	return func(t *testing.T) {
		require.True(t, until(slack*time.Minute, func() bool { return !p.bot.Webhook(t, p.hook.ID).IsActive }), "not disabled, after %d POSTs", p.receiver.Count())
		neverComes(t, stack, p, time.Now(), p.receiver.Count())
	}
}

func plannedIsOvertaken(t *testing.T, stack *testkit.Stack) (judge func(t *testing.T)) {
	p, d := failing(t, stack, "overtaken")
	at := planned(t, stack, p, d)
	p.receiver.Answer(p.path, p.take)
	require.True(t, p.bot.Redeliver(t, d.ID, p.hook.ID).Success)
	return func(t *testing.T) {
		neverComes(t, stack, p, at, 2)
	}
}

// neverComes checks that no attempt is announced for any delivery of the webhook, and that none comes, beyond the posts
// made, when it would have been due.
func neverComes(t *testing.T, stack *testkit.Stack, p *patient, due time.Time, posts int) {
	t.Helper()
	deliveries := p.bot.Deliveries(t, p.hook.ID)
	announced := 0
	for _, d := range deliveries {
		if at := nextAttemptAt(t, stack, p, d.ID); at != nil {
			announced++
			t.Errorf("attempt %d of event %s failed, and nextAttemptAt promises another at %v", d.Attempt, d.EventID, at)
		}
	}
	came := until(time.Until(due.Add(5*time.Second)), func() bool { return p.receiver.Count() > posts })
	t.Logf("%d deliveries, of which %d announce another attempt; one came: %v", len(deliveries), announced, came)
	if came {
		t.Errorf("%d POSTs, rather than %d", p.receiver.Count(), posts)
	}
}

// plannedOutlivesItsWorkflow ends the workflow that waits for the retry to be due.
func plannedOutlivesItsWorkflow(t *testing.T, stack *testkit.Stack) (judge func(t *testing.T)) {
	p, d := failing(t, stack, "outlives")
	at := planned(t, stack, p, d)
	endQueue(t, stack, p)
	p.receiver.Answer(p.path, p.take)
	return func(t *testing.T) {
		p.receiver.AwaitWithin(t, p.path, 2, time.Until(at.Add(slack*wokenWithin)))
		t.Logf("workflow %s terminated; the retry came %v after it was due", queueOf(p), p.receiver.Requests(p.path)[1].At.Sub(at))
	}
}

// queueOutlivesItsWorkflow ends the workflow while events come in, and the webhook is failing.
func queueOutlivesItsWorkflow(t *testing.T, stack *testkit.Stack) (judge func(t *testing.T)) {
	p, _ := failing(t, stack, "incoming")
	endQueue(t, stack, p)
	p.receiver.Answer(p.path, p.take)
	ended := time.Now()
	var ids []string
	var all sync.WaitGroup
	for n := range 5 {
		id := fmt.Sprintf("incoming-%d", n)
		ids = append(ids, id)
		all.Go(func() {
			if err := emitPatiently(t.Context(), stack.API(), testkit.Event{ID: id, Type: post, BotIDs: []string{p.bot.ID}}); err != nil {
				t.Errorf("emit %s: %v", id, err)
			}
		})
	}
	all.Wait()
	return func(t *testing.T) {
		arrived := until(slack*wokenWithin, func() bool { return len(p.well()) >= len(ids) })
		t.Logf("workflow %s terminated; of %d events since, %d arrived within %v", queueOf(p), len(ids), len(p.well()), time.Since(ended).Round(time.Millisecond))
		require.True(t, arrived)
		p.arrives(t, ids...)
	}
}

// queueOf is the id of the workflow that sends what stands in a webhook's queue.
func queueOf(p *patient) string { return "webhook-" + p.hook.ID }

// endQueue terminates the workflow of the webhook's queue, as an operator can.
func endQueue(t *testing.T, stack *testkit.Stack, p *patient) {
	t.Helper()
	describe := func() (enums.WorkflowExecutionStatus, error) {
		w, err := stack.Temporal(t).DescribeWorkflowExecution(t.Context(), queueOf(p), "")
		return w.GetWorkflowExecutionInfo().GetStatus(), err
	}
	var err error
	require.True(t, until(slack*time.Minute, func() bool {
		var status enums.WorkflowExecutionStatus
		status, err = describe()
		return err == nil && status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING
	}), "workflow %s does not run: %v", queueOf(p), err)
	require.NoError(t, stack.Temporal(t).TerminateWorkflow(t.Context(), queueOf(p), "", "an operator's mistake"))
}
