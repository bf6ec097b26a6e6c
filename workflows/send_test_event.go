package workflows

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
)

// NotMadeError says why an attempt was not made: one of delivery's reasons, and for delivery.RateLimited when it may be.
type NotMadeError struct {
	Reason  string
	RetryIn time.Duration
}

func (e NotMadeError) Error() string { return e.Reason }

const (
	testPrefix = "test-"
	// manualTimeout bounds a delivery that a person waits for.
	manualTimeout = 60 * time.Second
)

// TestInput is a webhook that is to be tried.
type TestInput struct {
	WebhookID uuid.UUID `json:"webhookId"`
	// EventType is the type of the catalog whose sample is sent; "": a plain test event.
	EventType webhook.EventType `json:"eventType,omitempty"`
}

func (in TestInput) check(workflowID string) error {
	if err := webhook.CheckTestType(in.EventType); err != nil {
		return err
	}
	return checkMade(testPrefix)(in.WebhookID, workflowID)
}

// SendTest sends a test event to one webhook, once, or has its queue do so. The event's id is the workflow's, less `test-`.
func SendTest(ctx workflow.Context, in TestInput) (delivery.Result, error) {
	return sendOwnEvent(ctx, delivery.TestEvent{WebhookID: in.WebhookID, Type: in.EventType}, testPrefix, act.PrepareTest)
}

// sendOwnEvent sends an event that is made for one webhook: of the workflow's id, less the prefix. prepare is the activity that
// makes it.
func sendOwnEvent(ctx workflow.Context, in delivery.TestEvent, prefix string, prepare any) (delivery.Result, error) {
	info := workflow.GetInfo(ctx)
	in.EventID, in.WorkflowID = strings.TrimPrefix(info.WorkflowExecution.ID, prefix), info.WorkflowExecution.ID
	in.RunID, in.At = info.OriginalRunID, info.WorkflowStartTime
	var route delivery.Route
	if err := workflow.ExecuteLocalActivity(manualActivity(ctx, in.WebhookID.String()), prepare, in).Get(ctx, &route); err != nil {
		return delivery.Result{}, err
	}
	return deliverManually(ctx, route)
}

// deliverManually makes an attempt that a person waits for, unless the webhook's queue does.
func deliverManually(ctx workflow.Context, route delivery.Route) (r delivery.Result, err error) {
	switch {
	case route.Ended != nil:
		r = *route.Ended
	case route.Queued:
		return delivery.Result{Status: delivery.Queued}, nil
	default:
		err = workflow.ExecuteLocalActivity(manualActivity(ctx, route.Attempt.WebhookID.String()), act.Deliver, route.Attempt).Get(ctx, &r)
	}
	if err == nil && r.Status == delivery.Failed && route.Searchable {
		err = upsertFailed(ctx, searchattr.WebhookID.ValueSet([]string{route.Attempt.WebhookID.String()}))
	}
	return r, err
}

// manualActivity are the options of a delivery that a person waits for.
func manualActivity(ctx workflow.Context, summary string) workflow.Context {
	return workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		StartToCloseTimeout:    activities.AttemptTimeout,
		ScheduleToCloseTimeout: manualTimeout,
		RetryPolicy:            &temporal.RetryPolicy{InitialInterval: 100 * time.Millisecond, MaximumInterval: time.Second},
		Summary:                summary,
	})
}

// StartTest runs SendTest and returns the attempt that it makes. It is then in the history, or queued says that the
// webhook's queue makes it, before all that is due. It fails with a NotMadeError, or with what kept Temporal from running it
// before ctx ended.
func StartTest(ctx context.Context, c client.Client, a *searchattr.Attributes, t delivery.Target, eventType webhook.EventType) (made delivery.Attempt, queued bool, err error) {
	return startOwnEvent(ctx, c, a, t, testPrefix, "test event to ", webhook.Test, SendTest, TestInput{WebhookID: t.WebhookID, EventType: eventType})
}

// startOwnEvent runs a workflow that sends an event of its own to one webhook.
func startOwnEvent(ctx context.Context, c client.Client, a *searchattr.Attributes, t delivery.Target, prefix, summary string, kind webhook.EventType, run, input any) (made delivery.Attempt, queued bool, err error) {
	id := webhook.NewID()
	r, err := runToEnd(ctx, c, a, client.StartWorkflowOptions{ID: prefix + id, StaticSummary: summary + targetLabel(t)},
		append(searchAttributesFor(t), searchattr.EventType.ValueSet([]string{string(kind)})), run, input)
	return delivery.Attempt{EventID: id, WebhookID: t.WebhookID, Number: 1}, r.Status == delivery.Queued, err
}

// runToEnd runs a workflow that a person waits for, and returns its result. One that skipped its delivery is a NotMadeError.
func runToEnd(ctx context.Context, c client.Client, a *searchattr.Attributes, options client.StartWorkflowOptions, attributes []temporal.SearchAttributeUpdate, run, input any) (r delivery.Result, err error) {
	options.TaskQueue, options.EnableEagerStart, options.WorkflowExecutionTimeout = TaskQueue, true, 2*manualTimeout
	started, err := a.Start(ctx, c, temporal.NewSearchAttributes(attributes...), options, run, input)
	if err != nil {
		return r, fmt.Errorf("start %s: %w", options.ID, err)
	}
	if err := started.Get(ctx, &r); err != nil {
		return r, fmt.Errorf("%s: %w", options.ID, err)
	}
	if r.Status == delivery.Skipped {
		return r, NotMadeError{r.Error, r.RetryIn}
	}
	return r, nil
}
