package workflows

import (
	"context"
	"errors"
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
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/webhook"
)

const validEvent = `{"id":"e1","event":"post.created","timestamp":"2025-03-20T10:30:00Z","data":{"postId":"p1"}}`

func newEnv(t *testing.T) *testsuite.TestWorkflowEnvironment {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.RegisterWorkflow(DeliverEvent)
	env.RegisterWorkflow(DeliverBatch)
	env.RegisterWorkflow(WebhookQueue)
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

func target() delivery.Target {
	return delivery.Target{WebhookID: uuid.Must(uuid.NewV7()), BotID: "bot", Host: "example.com"}
}

func delivered() delivery.Result {
	return delivery.Result{Status: delivery.Delivered, StatusCode: 200}
}

func failed(retrying bool) delivery.Result {
	return delivery.Result{Status: delivery.Failed, StatusCode: 500, Error: "HTTP 500", Retrying: retrying}
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

// TestWhatTheEmitterFoundValidWaits for a worker of its version, as a new event type does in a deploy.
func TestWhatTheEmitterFoundValidWaits(t *testing.T) {
	for input, run := range map[string]any{
		`{"event":"post.deleted","data":{}}`:                                      DeliverEvent,
		`[{"event":"post.deleted","data":{}}]`:                                    DeliverEvents,
		`[{"event":"post.created","data":{}},{"event":"post.deleted","data":{}}]`: DeliverEvents,
		`{}`: DeliverEvents,
	} {
		value := jsonInput(input)
		value.Payload().Metadata[emit.MetadataChecked] = nil
		env := newEnv(t)
		if strings.Contains(input, "post.created") {
			env.OnActivity(act.StartKnown, mock.Anything, mock.MatchedBy(func(in delivery.KnownEvents) bool {
				return in.WorkflowID == "events-1" && len(in.Events) == 1 && in.Events[0].Type == webhook.PostCreated
			})).Return(nil).Once()
		}
		env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "events-1", TaskQueue: TaskQueue})
		env.ExecuteWorkflow(run, value)
		var panicked *temporal.PanicError
		require.ErrorAs(t, env.GetWorkflowError(), &panicked, input)
		require.ErrorContains(t, panicked, "another version of the emitter")
		env.AssertNotCalled(t, "AcceptEvents", mock.Anything, mock.Anything)
	}
}

func TestAWorkflowNamedAfterAnotherEventFails(t *testing.T) {
	for workflowID, valid := range map[string]bool{"event-e1": true, "whatever": true, "event-e2": false, "event-": false} {
		env := newEnv(t)
		env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflowID, TaskQueue: TaskQueue})
		env.OnActivity(act.AcceptEvents, mock.Anything, mock.Anything).Return(audienceOf(0), nil).Maybe()
		env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
		if valid {
			require.NoError(t, env.GetWorkflowError())
			continue
		}
		var fault *temporal.ApplicationError
		require.ErrorAs(t, env.GetWorkflowError(), &fault)
		require.Equal(t, InvalidEventError, fault.Type())
		require.Contains(t, fault.Message(), `"event-e1"`)
		env.AssertNotCalled(t, "AcceptEvents", mock.Anything, mock.Anything)
	}
}

// audienceOf is an event's: so many webhooks that are queued, and targets.
func audienceOf(queued int, targets ...delivery.Target) delivery.Audience {
	e := delivery.EventAudience{Queued: queued}
	for i := range targets {
		e.Targets = append(e.Targets, i)
	}
	return delivery.Audience{Targets: targets, Events: []delivery.EventAudience{e}}
}

func TestEveryWebhookGetsOneAttempt(t *testing.T) {
	env := newEnv(t)
	targets := []delivery.Target{target(), target(), target()}
	env.OnActivity(act.AcceptEvents, mock.Anything, mock.MatchedBy(func(in delivery.EventsToAccept) bool {
		return in.Events[0].ID == "e1" && in.WorkflowID == "event-e1" && in.Events[0].Timestamp == "2025-03-20T10:30:00.000Z"
	})).Return(audienceOf(2, targets...), nil).Once()
	for i, r := range []delivery.Result{delivered(), failed(true), failed(false)} {
		env.OnActivity(act.Deliver, mock.Anything, delivery.First("e1", targets[i].WebhookID)).Return(r, nil).Once()
	}
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Webhooks: 5, Counts: delivery.Counts{Delivered: 1, Retrying: 1, Failed: 1, Queued: 2}}, summaryOf(t, env))
}

func TestADuplicateDeliversNothing(t *testing.T) {
	env := newEnv(t)
	env.OnActivity(act.AcceptEvents, mock.Anything, mock.Anything).Return(delivery.Audience{Events: []delivery.EventAudience{{Duplicate: true}}}, nil).Once()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Duplicate: true}, summaryOf(t, env))
}

func TestTheEventIDComesFromTheWorkflowsOrTheRuns(t *testing.T) {
	for workflowID, want := range map[string]string{"event-abc_1": "abc_1", "event-a.b": "", "whatever": ""} {
		env := newEnv(t)
		env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: workflowID, TaskQueue: TaskQueue})
		var got string
		env.OnActivity(act.AcceptEvents, mock.Anything, mock.MatchedBy(func(in delivery.EventsToAccept) bool {
			got = in.Events[0].ID
			return true
		})).Return(audienceOf(0), nil).Once()
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

// TestOurOwnTroubleIsWaitedOut: an attempt that our own side could not record or queue is made again, whatever it takes.
func TestOurOwnTroubleIsWaitedOut(t *testing.T) {
	env := newEnv(t)
	to := target()
	env.OnActivity(act.AcceptEvents, mock.Anything, mock.Anything).Return(audienceOf(0), errors.New("no database")).Times(20)
	env.OnActivity(act.AcceptEvents, mock.Anything, mock.Anything).Return(audienceOf(0, to), nil).Once()
	env.OnActivity(act.Deliver, mock.Anything, mock.Anything).Return(delivery.Result{}, errors.New("no database")).Times(20)
	env.OnActivity(act.Deliver, mock.Anything, mock.Anything).Return(delivered(), nil).Once()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Webhooks: 1, Counts: delivery.Counts{Delivered: 1}}, summaryOf(t, env))
}

func TestALargeAudienceIsBatched(t *testing.T) {
	env := newEnv(t)
	half := uuid.Must(uuid.NewV7())
	pages := []delivery.Page{{Upto: half}, {After: half, Upto: uuid.Max}}
	env.OnActivity(act.AcceptEvents, mock.Anything, mock.Anything).Return(delivery.Audience{Events: []delivery.EventAudience{{Pages: pages}}}, nil).Once()
	in := delivery.Batches{EventID: "e1", EventType: webhook.PostCreated, Summary: "post.created · post p1", Pages: pages}
	env.OnActivity(act.StartBatches, mock.Anything, in).Return(0, errors.New("no Temporal")).Times(2)
	env.OnActivity(act.StartBatches, mock.Anything, in).Return(1, nil).Once()
	in.Started = 1
	env.OnActivity(act.StartBatches, mock.Anything, in).Return(2, nil).Once()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{EventID: "e1", Batches: 2}, summaryOf(t, env))
}

// TestABatchGoesOnStepByStep, and as a new run after many.
func TestABatchGoesOnStepByStep(t *testing.T) {
	env := newEnv(t)
	last := uuid.Must(uuid.NewV7())
	env.OnActivity(act.AddressPart, mock.Anything, delivery.PartOfAudience{EventID: "e1", Page: delivery.Page{Upto: uuid.Max}}).
		Return(delivery.Audience{Events: []delivery.EventAudience{{Queued: 500}}, More: true, Last: last}, nil).Once()
	env.OnActivity(act.AddressPart, mock.Anything, delivery.PartOfAudience{EventID: "e1", Page: delivery.Page{After: last, Upto: uuid.Max}}).
		Return(audienceOf(7), nil).Once()
	env.ExecuteWorkflow(DeliverBatch, BatchInput{EventID: "e1", Page: delivery.Page{Upto: uuid.Max}, Sum: Summary{Webhooks: 3, Counts: delivery.Counts{Delivered: 3}}})
	require.Equal(t, Summary{EventID: "e1", Webhooks: 510, Counts: delivery.Counts{Delivered: 3, Queued: 507}}, summaryOf(t, env))

	env = newEnv(t)
	env.OnActivity(act.AddressPart, mock.Anything, mock.Anything).Return(delivery.Audience{Events: []delivery.EventAudience{{Queued: 500}}, More: true, Last: last}, nil).Times(batchSteps)
	env.ExecuteWorkflow(DeliverBatch, BatchInput{EventID: "e1", Page: delivery.Page{Upto: uuid.Max}})
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var in BatchInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &in))
	require.Equal(t, delivery.Page{After: last, Upto: uuid.Max}, in.Page)
	require.Equal(t, batchSteps*500, in.Sum.Queued)
}

// TestABatchWaitsForItsTurn: where so many look up their webhooks that none is done within an attempt's time, each is in the end.
func TestABatchWaitsForItsTurn(t *testing.T) {
	env := newEnv(t)
	env.OnActivity(act.AddressPart, mock.Anything, mock.Anything).Return(func(ctx context.Context, _ delivery.PartOfAudience) (delivery.Audience, error) {
		until, bounded := ctx.Deadline()
		require.True(t, bounded)
		require.Greater(t, time.Until(until), time.Minute)
		return delivery.Audience{Events: []delivery.EventAudience{{}}}, nil
	}).Once()
	env.ExecuteWorkflow(DeliverBatch, BatchInput{EventID: "e1", Page: delivery.Page{Upto: uuid.Max}})
	require.NoError(t, env.GetWorkflowError())
}

func TestALargerAudienceIsAGroup(t *testing.T) {
	env := newEnv(t)
	var targets []delivery.Target
	for range oneByOne + 1 {
		targets = append(targets, target())
	}
	env.OnActivity(act.AcceptEvents, mock.Anything, mock.Anything).Return(audienceOf(0, targets...), nil).Once()
	env.OnActivity(act.DeliverGroup, mock.Anything, mock.Anything).Return(func(_ context.Context, g delivery.Group) (delivery.GroupResult, error) {
		require.Len(t, g.Deliveries, len(targets))
		return delivery.GroupResult{Counts: delivery.Counts{Delivered: 2}, Left: 2}, nil // there was room for two
	}).Once()
	env.OnActivity(act.DeliverGroup, mock.Anything, mock.Anything).Return(func(_ context.Context, g delivery.Group) (delivery.GroupResult, error) {
		require.Equal(t, []delivery.Pair{{EventID: "e1", WebhookID: targets[2].WebhookID}, {EventID: "e1", WebhookID: targets[3].WebhookID}}, g.Deliveries)
		return delivery.GroupResult{Counts: delivery.Counts{Delivered: 1, Queued: 1}, Ended: []delivery.Ended{{Delivery: 1, Result: delivery.Result{Status: delivery.Queued}}}}, nil
	}).Once()
	env.ExecuteWorkflow(DeliverEvent, jsonInput(validEvent))
	require.Equal(t, Summary{
		EventID: "e1", Webhooks: 4, Counts: delivery.Counts{Delivered: 3, Queued: 1},
		NotDelivered: map[string]string{targets[3].WebhookID.String(): "waits in the webhook's queue"},
	}, fullSummaryOf(t, env))
}

func TestSendTestTakesItsEventFromTheWorkflowsID(t *testing.T) {
	for _, c := range []struct {
		route delivery.Route
		want  delivery.Result
	}{
		{delivery.Route{Attempt: delivery.First("e9", uuid.New())}, delivered()},
		{delivery.Route{Queued: true}, delivery.Result{Status: delivery.Queued}},
		{delivery.Route{Ended: &delivery.Result{Status: delivery.Skipped, Error: delivery.WebhookGone}}, delivery.Result{Status: delivery.Skipped, Error: delivery.WebhookGone}},
	} {
		env := newEnv(t)
		env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: "test-e9", TaskQueue: TaskQueue})
		id := uuid.Must(uuid.NewV7())
		env.OnActivity(act.PrepareTest, mock.Anything, mock.MatchedBy(func(in delivery.TestEvent) bool {
			return in.EventID == "e9" && in.WebhookID == id && in.WorkflowID == "test-e9"
		})).Return(c.route, nil).Once()
		env.OnActivity(act.Deliver, mock.Anything, c.route.Attempt).Return(delivered(), nil).Maybe()
		env.ExecuteWorkflow(SendTest, TestInput{WebhookID: id})
		require.NoError(t, env.GetWorkflowError())
		var r delivery.Result
		require.NoError(t, env.GetWorkflowResult(&r))
		require.Equal(t, c.want, r)
	}
}

func TestFairnessKeysFit(t *testing.T) {
	require.Equal(t, "bot", fairnessKey("bot"))
	long := fairnessKey(strings.Repeat("b", 65))
	require.Len(t, long, 64)
	require.NotEqual(t, long, fairnessKey(strings.Repeat("b", 66)))
}
