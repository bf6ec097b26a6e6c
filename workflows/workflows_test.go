package workflows

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
)

const validEvent = `{"id":"e1","event":"post.created","timestamp":"2025-03-20T10:30:00Z","data":{"postId":"p1"}}`

func newEnv(t *testing.T) *testsuite.TestWorkflowEnvironment {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.RegisterWorkflow(DeliverEvent)
	env.RegisterWorkflow(DeliverBatch)
	env.RegisterWorkflow(RetryDelivery)
	env.RegisterWorkflow(SendTest)
	env.RegisterWorkflow(Recover)
	env.RegisterWorkflow(RemoveExpired)
	env.RegisterWorkflow(NotifyDisabled)
	(&activities.Activities{}).Register(env)
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "event-e1", TaskQueue: TaskQueue})
	t.Cleanup(func() { env.AssertExpectations(t) })
	return env
}

func jsonInput(s string) converter.RawValue {
	return converter.NewRawValue(&commonpb.Payload{
		Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingJSON)}, Data: []byte(s),
	})
}

func target(slow bool) activities.Target {
	return activities.Target{WebhookID: uuid.Must(uuid.NewV7()), BotID: "bot", Host: "example.com", Slow: slow}
}

func delivered() activities.Result {
	return activities.Result{Status: activities.Delivered, StatusCode: 200}
}

func failed(retryIn time.Duration) activities.Result {
	return activities.Result{Status: activities.Failed, StatusCode: 500, Error: "HTTP 500", RetryInMs: retryIn.Milliseconds()}
}

// summaryOf is the result but for NotDelivered and NotListed, which TestTheResultSaysWhoDidNotTakeIt is for.
func summaryOf(t *testing.T, env *testsuite.TestWorkflowEnvironment) Summary {
	s := fullSummaryOf(t, env)
	s.NotDelivered, s.NotListed = nil, 0
	return s
}

func fullSummaryOf(t *testing.T, env *testsuite.TestWorkflowEnvironment) (s Summary) {
	require.True(t, env.IsWorkflowCompleted())
	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, env.GetWorkflowResult(&s))
	return s
}

func TestInvalidEventFailsAtOnceAndNamesTheFault(t *testing.T) {
	for name, c := range map[string]struct {
		input converter.RawValue
		want  string
	}{
		"not JSON":        {jsonInput("{"), "malformed JSON"},
		"unknown type":    {jsonInput(`{"event":"post.deleted","data":{}}`), "event"},
		"test":            {jsonInput(`{"event":"test","data":{}}`), "event"},
		"no data":         {jsonInput(`{"event":"post.created"}`), "data"},
		"no audience":     {jsonInput(`{"event":"mention","data":{}}`), "botIds"},
		"bad id":          {jsonInput(`{"id":"a.b","event":"post.created","data":{}}`), "id"},
		"unknown field":   {jsonInput(`{"event":"post.created","data":{},"botids":["b"]}`), "botids"},
		"a string":        {jsonInput(`"post.created"`), "object"},
		"too large":       {jsonInput(`{"event":"post.created","data":{"x":"` + strings.Repeat("x", 257<<10) + `"}}`), "262144"},
		"binary":          {converter.NewRawValue(&commonpb.Payload{Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingBinary)}, Data: []byte(validEvent)}), "json/plain"},
		"nothing, or nil": {converter.NewRawValue(&commonpb.Payload{Metadata: map[string][]byte{converter.MetadataEncoding: []byte(converter.MetadataEncodingNil)}}), "json/plain"},
	} {
		t.Run(name, func(t *testing.T) {
			env := newEnv(t)
			env.ExecuteWorkflow(DeliverEvent, c.input)
			require.True(t, env.IsWorkflowCompleted())
			var fault *temporal.ApplicationError
			require.ErrorAs(t, env.GetWorkflowError(), &fault)
			require.Equal(t, InvalidEventError, fault.Type())
			require.True(t, fault.NonRetryable())
			require.Contains(t, fault.Message(), c.want)
		})
	}
}

func TestAWorkflowNamedAfterAnotherEventFails(t *testing.T) {
	for workflowID, valid := range map[string]bool{"event-e1": true, "whatever": true, "event-e2": false, "event-": false} {
		env := newEnv(t)
		env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflowID, TaskQueue: TaskQueue})
		env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{}, nil).Maybe()
		env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
		if valid {
			require.NoError(t, env.GetWorkflowError())
			continue
		}
		var fault *temporal.ApplicationError
		require.ErrorAs(t, env.GetWorkflowError(), &fault)
		require.Equal(t, InvalidEventError, fault.Type())
		require.Contains(t, fault.Message(), `"event-e1"`)
		env.AssertNotCalled(t, "AcceptEvent", mock.Anything, mock.Anything)
	}
}

func TestEveryWebhookGetsOneAttempt(t *testing.T) {
	env := newEnv(t)
	targets := []activities.Target{target(false), target(false), target(true)}
	env.OnActivity(act.AcceptEvent, mock.Anything, mock.MatchedBy(func(in activities.AcceptInput) bool {
		return in.Event.ID == "e1" && in.Event.Timestamp == "2025-03-20T10:30:00.000Z"
	})).Return(activities.Audience{Targets: targets}, nil).Once()
	for _, target := range targets[:2] {
		env.OnActivity(act.Deliver, mock.Anything, activities.Delivery{EventID: "e1", WebhookID: target.WebhookID, Attempt: 1}).Return(delivered(), nil).Once()
	}
	env.OnActivity(act.DeliverSlow, mock.Anything, activities.SlowDelivery{Delivery: activities.Delivery{EventID: "e1", WebhookID: targets[2].WebhookID, Attempt: 1}}).Return(delivered(), nil).Once()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Webhooks: 3, Delivered: 3}, summaryOf(t, env))
}

func TestADuplicateDeliversNothing(t *testing.T) {
	env := newEnv(t)
	env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{Duplicate: true}, nil).Once()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Duplicate: true}, summaryOf(t, env))
}

func TestTheEventIDComesFromTheWorkflowsOrTheRuns(t *testing.T) {
	for workflowID, want := range map[string]string{"event-abc_1": "abc_1", "event-a.b": "", "whatever": ""} {
		env := newEnv(t)
		env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflowID, TaskQueue: TaskQueue})
		var got string
		env.OnActivity(act.AcceptEvent, mock.Anything, mock.MatchedBy(func(in activities.AcceptInput) bool {
			got = in.Event.ID
			return true
		})).Return(activities.Audience{}, nil).Once()
		env.ExecuteWorkflow(DeliverEvent, jsonInput(`{"event":"post.created","data":{}}`))
		require.NoError(t, env.GetWorkflowError())
		if want == "" {
			require.Equal(t, uuid.Version(7), uuid.MustParse(got).Version())
			require.Equal(t, uuid.RFC4122, uuid.MustParse(got).Variant())
		} else {
			require.Equal(t, want, got)
		}
	}
}

func TestAFailureGoesOnInAWorkflowOfItsOwn(t *testing.T) {
	env := newEnv(t)
	retried, last, gone := target(false), target(false), target(false)
	env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{Targets: []activities.Target{retried, last, gone}}, nil)
	env.OnActivity(act.Deliver, mock.Anything, mock.Anything).Return(func(_ context.Context, d activities.Delivery) (activities.Result, error) {
		switch d.WebhookID {
		case retried.WebhookID:
			return failed(30 * time.Second), nil
		case last.WebhookID:
			return failed(0), nil
		}
		return activities.Result{Status: activities.Skipped, Error: "webhook disabled"}, nil
	})
	env.OnWorkflow(RetryDelivery, mock.Anything, RetryInput{EventID: "e1", EventType: "post.created", Target: retried, Attempt: 2, DelayMs: 30_000, LastError: "HTTP 500"}).Return(delivered(), nil).Once()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Webhooks: 3, Retrying: 1, Failed: 1, Skipped: 1}, summaryOf(t, env))
}

func TestOurOwnTroubleAndADeferralEndInTheSlowLane(t *testing.T) {
	for name, first := range map[string]func() (activities.Result, error){
		"deferred": func() (activities.Result, error) { return activities.Result{Status: activities.Deferred}, nil },
		"error":    func() (activities.Result, error) { return activities.Result{}, errors.New("no database") },
	} {
		t.Run(name, func(t *testing.T) {
			env := newEnv(t)
			env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{Targets: []activities.Target{target(false)}}, nil)
			env.OnActivity(act.Deliver, mock.Anything, mock.Anything).Return(func(_ context.Context, _ activities.Delivery) (activities.Result, error) { return first() })
			env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(delivered(), nil).Once()
			env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
			require.Equal(t, Summary{EventID: "e1", Webhooks: 1, Delivered: 1}, summaryOf(t, env))
		})
	}
}

func TestWaitingForATurnDoesNotHoldUpTheEvent(t *testing.T) {
	env := newEnv(t)
	busy := target(true)
	env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{Targets: []activities.Target{busy}}, nil)
	env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(activities.Result{Status: activities.Deferred}, nil).Once()
	env.OnWorkflow(RetryDelivery, mock.Anything, RetryInput{EventID: "e1", EventType: "post.created", Target: busy, Attempt: 1, DelayMs: turnDelay.Milliseconds()}).Return(delivered(), nil).Once()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Webhooks: 1, Retrying: 1}, summaryOf(t, env))
}

func TestALargeAudienceIsBatched(t *testing.T) {
	env := newEnv(t)
	middle := uuid.Must(uuid.NewV7())
	pages := []activities.Page{{Upto: middle}, {After: middle, Upto: uuid.Max}}
	env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{Pages: pages}, nil)
	for _, page := range pages {
		env.OnActivity(act.ResolveBatch, mock.Anything, activities.BatchInput{EventID: "e1", EventType: "post.created", Summary: "post.created · post p1", Page: page}).Return(activities.Audience{Targets: []activities.Target{target(false)}}, nil).Once()
	}
	env.OnActivity(act.Deliver, mock.Anything, mock.Anything).Return(delivered(), nil).Times(2)
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Batches: 2}, summaryOf(t, env))
}

func TestRetryDeliveryFollowsTheDelaysItIsGiven(t *testing.T) {
	env := newEnv(t)
	t0 := env.Now()
	var at []time.Duration
	env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(func(_ context.Context, d activities.SlowDelivery) (activities.Result, error) {
		at = append(at, env.Now().Sub(t0).Round(time.Second))
		require.Equal(t, len(at)+1, d.Attempt)
		require.True(t, d.Patient)
		return []activities.Result{failed(2 * time.Minute), failed(10 * time.Hour), delivered()}[len(at)-1], nil
	})
	env.RegisterDelayedCallback(func() {
		answer, err := env.QueryWorkflow(StatusQuery)
		require.NoError(t, err)
		var s RetryStatus
		require.NoError(t, answer.Get(&s))
		require.Equal(t, 3, s.Attempt)
		require.Equal(t, "HTTP 500", s.LastError)
		require.WithinDuration(t, t0.Add(150*time.Second), *s.NextAttemptAt, time.Second)
	}, time.Minute)
	env.ExecuteWorkflow(RetryDelivery, RetryInput{EventID: "e1", Target: target(false), Attempt: 2, DelayMs: 30_000, LastError: "timeout"})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []time.Duration{30 * time.Second, 150 * time.Second, 10*time.Hour + 150*time.Second}, at)
	var r activities.Result
	require.NoError(t, env.GetWorkflowResult(&r))
	require.Equal(t, delivered(), r)
}

func TestRetryDeliveryEndsWithTheScheduleOrTheSubscription(t *testing.T) {
	for _, last := range []activities.Result{failed(0), {Status: activities.Skipped, Error: "webhook disabled"}} {
		env := newEnv(t)
		env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(last, nil).Once()
		env.ExecuteWorkflow(RetryDelivery, RetryInput{EventID: "e1", Target: target(false), Attempt: 8, DelayMs: 1})
		require.NoError(t, env.GetWorkflowError())
		var r activities.Result
		require.NoError(t, env.GetWorkflowResult(&r))
		require.Equal(t, last, r)
	}
}

func TestRetryDeliveryLeavesOutNumbersThatOthersHaveTaken(t *testing.T) {
	env := newEnv(t)
	type made struct{ attempt, step int }
	var got []made
	taken := failed(0)
	taken.Taken = true
	env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(func(_ context.Context, d activities.SlowDelivery) (activities.Result, error) {
		got = append(got, made{d.Attempt, d.Step})
		return []activities.Result{taken, taken, failed(time.Hour), delivered()}[len(got)-1], nil
	})
	env.ExecuteWorkflow(RetryDelivery, RetryInput{EventID: "e1", Target: target(false), Attempt: 2, DelayMs: 30_000})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []made{{2, 2}, {3, 2}, {4, 2}, {5, 3}}, got)
}

func TestRetryNowDoesNotWait(t *testing.T) {
	env := newEnv(t)
	t0 := env.Now()
	attempts := 0
	env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(func(_ context.Context, _ activities.SlowDelivery) (activities.Result, error) {
		attempts++
		if attempts == 1 {
			require.WithinDuration(t, t0.Add(time.Hour), env.Now(), time.Second)
			return failed(time.Hour), nil
		}
		require.WithinDuration(t, t0.Add(2*time.Hour), env.Now(), time.Second, "one signal is one attempt")
		return delivered(), nil
	})
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(RetryNowSignal, nil) }, time.Hour)
	env.ExecuteWorkflow(RetryDelivery, RetryInput{EventID: "e1", Target: target(false), Attempt: 2, DelayMs: (10 * time.Hour).Milliseconds()})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 2, attempts)
}

func TestRetryDeliveryWaitsOutOurOwnTrouble(t *testing.T) {
	env := newEnv(t)
	tries := 0
	env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(func(_ context.Context, _ activities.SlowDelivery) (activities.Result, error) {
		tries++
		if tries <= 8 { // the test environment gives up after ten
			return activities.Result{}, temporal.NewApplicationError("not this delivery's turn yet", activities.BusyError)
		}
		return delivered(), nil
	})
	env.ExecuteWorkflow(RetryDelivery, RetryInput{EventID: "e1", Target: target(false), Attempt: 1, DelayMs: 5000})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 9, tries)
}

func TestSendTestTakesItsEventFromTheWorkflowsID(t *testing.T) {
	env := newEnv(t)
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "test-xyz", TaskQueue: TaskQueue})
	id := uuid.Must(uuid.NewV7())
	env.OnActivity(act.SendTest, mock.Anything, mock.MatchedBy(func(in activities.TestInput) bool {
		return in.WebhookID == id && in.EventID == "xyz"
	})).Return(failed(0), nil).Once()
	env.ExecuteWorkflow(SendTest, id)
	require.NoError(t, env.GetWorkflowError())
}

func TestFairnessKeysFit(t *testing.T) {
	require.Equal(t, "bot", fairnessKey("bot"))
	long := fairnessKey(strings.Repeat("b", 65))
	require.Len(t, long, 64)
	require.NotEqual(t, long, fairnessKey(strings.Repeat("b", 66)))
}

func recoveryOf(t *testing.T, env *testsuite.TestWorkflowEnvironment) (p Progress) {
	answer, err := env.QueryWorkflow(ProgressQuery)
	require.NoError(t, err)
	require.NoError(t, answer.Get(&p))
	return p
}

func missedEvents(n int) []activities.Missed {
	page := make([]activities.Missed, n)
	for i := range page {
		page[i] = activities.Missed{EventID: fmt.Sprintf("e%03d", i), AcceptedAt: time.Unix(int64(i), 0).UTC(), Attempt: 1 + i%3}
	}
	return page
}

func TestARecoveryDeliversOneByOneAndRests(t *testing.T) {
	env := newEnv(t)
	page := missedEvents(25)
	env.OnActivity(act.ListMissed, mock.Anything, mock.Anything).Return(page, nil).Once()
	var sent []activities.Missed
	env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(func(_ context.Context, d activities.SlowDelivery) (activities.Result, error) {
		sent = append(sent, activities.Missed{EventID: d.EventID, AcceptedAt: page[len(sent)].AcceptedAt, Attempt: d.Attempt})
		switch len(sent) {
		case 3:
			return failed(time.Hour), nil
		case 4:
			return activities.Result{Status: activities.Skipped, Error: activities.NotSubscribed}, nil
		}
		return delivered(), nil
	})
	began := env.Now()
	env.ExecuteWorkflow(Recover, RecoverInput{Target: target(true), Progress: Progress{Found: 25, Remaining: 25}})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, page, sent)
	require.Equal(t, Progress{State: RecoveryCompleted, Found: 25, Delivered: 23, Failed: 1, LastError: "HTTP 500"}, recoveryOf(t, env))
	require.Equal(t, 2*recoverPause, env.Now().Sub(began).Truncate(recoverPause))
}

func TestARecoveryGoesOnWhereItsPageEnded(t *testing.T) {
	env := newEnv(t)
	page := missedEvents(activities.MissedPage)
	env.OnActivity(act.ListMissed, mock.Anything, mock.Anything).Return(page, nil).Once()
	env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(delivered(), nil)
	in := RecoverInput{Target: target(true), Progress: Progress{Found: 150, Remaining: 150}}
	env.ExecuteWorkflow(Recover, in)
	var next *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &next)
	var carried RecoverInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(next.Input, &carried))
	in.After, in.Progress = page[len(page)-1], Progress{State: RecoveryRunning, Found: 150, Delivered: 100, Remaining: 50}
	require.Equal(t, in, carried)
}

func TestARecoveryStopsWhenTheWebhookIsDisabledAgain(t *testing.T) {
	env := newEnv(t)
	env.OnActivity(act.ListMissed, mock.Anything, mock.Anything).Return(missedEvents(5), nil).Once()
	env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(activities.Result{Status: activities.Skipped, Error: activities.WebhookDisabled}, nil).Once()
	env.ExecuteWorkflow(Recover, RecoverInput{Target: target(true), Progress: Progress{Found: 5, Remaining: 5}})
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, Progress{State: RecoveryStopped, Found: 5, Remaining: 5, LastError: activities.WebhookDisabled}, recoveryOf(t, env))
}

func TestACancelledRecoveryEndsAfterTheDeliveryUnderWay(t *testing.T) {
	env := newEnv(t)
	env.OnActivity(act.ListMissed, mock.Anything, mock.Anything).Return(missedEvents(20), nil).Once()
	env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(delivered(), nil)
	env.RegisterDelayedCallback(env.CancelWorkflow, recoverPause/2) // it rests after ten
	env.ExecuteWorkflow(Recover, RecoverInput{Target: target(true), Progress: Progress{Found: 20, Remaining: 20}})
	var cancelled *temporal.CanceledError
	require.ErrorAs(t, env.GetWorkflowError(), &cancelled)
	require.Equal(t, Progress{State: RecoveryCancelled, Found: 20, Delivered: 10, Remaining: 10}, recoveryOf(t, env))
}

func TestABotHeldBackGetsItsPartAsItHasRoom(t *testing.T) {
	env := newEnv(t)
	other, first, second := target(false), target(false), target(true)
	env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{Targets: []activities.Target{other}, Held: []string{"busy"}}, nil).Once()
	held := func(round int, after uuid.UUID, admitted activities.Admitted) {
		in := activities.HeldInput{EventID: "e1", BotID: "busy", After: after, Upto: uuid.Max, Round: round}
		env.OnActivity(act.AdmitHeld, mock.Anything, in).Return(admitted, nil).Once()
	}
	held(0, uuid.Nil, activities.Admitted{AgainInMs: 60_000})
	held(1, uuid.Nil, activities.Admitted{Targets: []activities.Target{first}, AgainInMs: 1})
	held(0, first.WebhookID, activities.Admitted{Targets: []activities.Target{second}, AgainInMs: 1})
	held(0, second.WebhookID, activities.Admitted{})
	env.OnActivity(act.Deliver, mock.Anything, mock.Anything).Return(delivered(), nil).Twice()
	env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(delivered(), nil).Once()
	began := env.Now()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Webhooks: 3, Delivered: 3}, summaryOf(t, env))
	require.GreaterOrEqual(t, env.Now().Sub(began), time.Minute)
}

// TestWhatFindsNoRoomOnItsWayIsHeldBack: also when that happens while the held are admitted, nobody is passed over.
func TestWhatFindsNoRoomOnItsWayIsHeldBack(t *testing.T) {
	env := newEnv(t)
	targets := []activities.Target{target(false), target(false)}
	env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{Targets: targets}, nil).Once()
	deferred := activities.Result{Status: activities.Deferred, Held: true}
	deliver := func(i int, r activities.Result) {
		env.OnActivity(act.Deliver, mock.Anything, activities.Delivery{EventID: "e1", WebhookID: targets[i].WebhookID, Attempt: 1}).Return(r, nil).Once()
	}
	deliver(0, delivered())
	deliver(1, deferred)
	deliver(1, deferred)
	deliver(1, delivered())
	in := activities.HeldInput{EventID: "e1", BotID: "bot", Upto: uuid.Max}
	env.OnActivity(act.AdmitHeld, mock.Anything, in).Return(activities.Admitted{Targets: targets[1:]}, nil).Twice()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Webhooks: 2, Delivered: 2}, summaryOf(t, env))
}

// TestALargerAudienceIsAGroup: each of its webhooks goes on as it would have alone.
func TestALargerAudienceIsAGroup(t *testing.T) {
	env := newEnv(t)
	var targets []activities.Target
	for range oneByOne + 4 {
		targets = append(targets, target(false))
	}
	taken, retried, gone, turn, held, open, slow := targets[0], targets[1], targets[2], targets[3], targets[4], targets[5], &targets[6]
	slow.Slow = true
	env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{Targets: targets}, nil).Once()
	group := activities.Group{EventID: "e1", WebhookIDs: []uuid.UUID{taken.WebhookID, retried.WebhookID, gone.WebhookID, turn.WebhookID, held.WebhookID, open.WebhookID}}
	env.OnActivity(act.DeliverGroup, mock.Anything, group).Return(activities.GroupResult{
		Delivered: 1,
		Ended: map[uuid.UUID]activities.Result{
			retried.WebhookID: failed(30 * time.Second),
			gone.WebhookID:    {Status: activities.Skipped, Error: activities.WebhookGone},
			turn.WebhookID:    {Status: activities.Deferred},
			held.WebhookID:    {Status: activities.Deferred, Held: true},
		},
		Open: []uuid.UUID{open.WebhookID},
	}, nil).Once()
	first := func(of activities.Target) activities.Delivery {
		return activities.Delivery{EventID: "e1", WebhookID: of.WebhookID, Attempt: 1}
	}
	env.OnActivity(act.Deliver, mock.Anything, first(open)).Return(delivered(), nil).Once()
	env.OnActivity(act.DeliverSlow, mock.Anything, activities.SlowDelivery{Delivery: first(turn)}).Return(delivered(), nil).Once()
	env.OnActivity(act.DeliverSlow, mock.Anything, activities.SlowDelivery{Delivery: first(*slow)}).Return(delivered(), nil).Once()
	in := activities.HeldInput{EventID: "e1", BotID: "bot", Upto: uuid.Max}
	env.OnActivity(act.AdmitHeld, mock.Anything, in).Return(activities.Admitted{Targets: []activities.Target{held}}, nil).Once()
	env.OnActivity(act.Deliver, mock.Anything, first(held)).Return(delivered(), nil).Once()
	env.OnWorkflow(RetryDelivery, mock.Anything, mock.MatchedBy(func(in RetryInput) bool { return in.Target == retried && in.Attempt == 2 })).Return(delivered(), nil).Once()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Webhooks: 7, Delivered: 5, Retrying: 1, Skipped: 1}, summaryOf(t, env))
}

func TestAGroupThatOurOwnSideFailsEndsInTheSlowLane(t *testing.T) {
	env := newEnv(t)
	var targets []activities.Target
	for range oneByOne + 1 {
		targets = append(targets, target(false))
	}
	env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{Targets: targets}, nil).Once()
	env.OnActivity(act.DeliverGroup, mock.Anything, mock.Anything).Return(activities.GroupResult{}, errors.New("the database is away"))
	env.OnActivity(act.DeliverSlow, mock.Anything, mock.Anything).Return(delivered(), nil).Times(len(targets))
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Webhooks: len(targets), Delivered: len(targets)}, summaryOf(t, env))
}

func TestManyRetriesStartBitByBit(t *testing.T) {
	env := newEnv(t)
	const many = retriesAtOnce + 3*retriesEach
	var targets []activities.Target
	for range many {
		targets = append(targets, target(false))
	}
	env.OnActivity(act.AcceptEvent, mock.Anything, mock.Anything).Return(activities.Audience{Targets: targets}, nil).Once()
	env.OnActivity(act.DeliverGroup, mock.Anything, mock.Anything).Return(func(_ context.Context, g activities.Group) (activities.GroupResult, error) {
		ended := map[uuid.UUID]activities.Result{}
		for _, id := range g.WebhookIDs {
			ended[id] = failed(30 * time.Second)
		}
		return activities.GroupResult{Ended: ended}, nil
	}).Once()
	began := env.Now()
	var due []time.Duration // since the failure
	env.OnWorkflow(RetryDelivery, mock.Anything, mock.Anything).Return(func(ctx workflow.Context, in RetryInput) (activities.Result, error) {
		due = append(due, workflow.Now(ctx).Sub(began)+time.Duration(in.DelayMs)*time.Millisecond)
		return activities.Result{}, nil
	})
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Webhooks: many, Retrying: many}, summaryOf(t, env))
	require.GreaterOrEqual(t, env.Now().Sub(began), 3*time.Second)
	require.Len(t, due, many)
	for _, d := range due {
		require.InDelta(t, 30*time.Second, d, float64(time.Second), "a late start makes no late retry")
	}
}
