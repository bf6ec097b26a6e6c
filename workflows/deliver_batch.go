package workflows

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
)

// BatchInput names a page of an event's audience.
type BatchInput struct {
	EventID string `json:"eventId"`
	// EventType, and Summary, the event's, are for operators.
	EventType webhook.EventType `json:"eventType"`
	Summary   string            `json:"summary"`
	Page      delivery.Page     `json:"page"`
	// Sum is what came of the page's beginning, when the batch goes on as a new run.
	Sum Summary `json:"sum"`
}

func (in BatchInput) check(string) error {
	s := in.Sum
	switch {
	case !webhook.ValidID(in.EventID):
		return webhook.Invalid("eventId", "must be an event's id")
	case bytes.Compare(in.Page.After[:], in.Page.Upto[:]) >= 0:
		return webhook.Invalid("page", "must be a span of webhook ids: after is less than upto")
	case len(in.Summary) > maxSummary:
		return webhook.Invalid("summary", fmt.Sprintf("must have at most %d bytes", maxSummary))
	case min(s.Webhooks, s.Delivered, s.Failed, s.Retrying, s.Queued, s.Skipped, s.NotListed) < 0,
		max(s.Webhooks, s.Delivered, s.Failed, s.Retrying, s.Queued, s.Skipped, s.NotListed) > maxCounted:
		return webhook.Invalid("sum", fmt.Sprintf("must hold numbers of 0 to %d", maxCounted))
	case len(s.NotDelivered) > maxListed || len(s.Duplicates)+len(s.Conflicts)+len(s.UnknownBots) > 0:
		return webhook.Invalid("sum", fmt.Sprintf("must name at most %d webhooks", maxListed))
	}
	return nil
}

const (
	// maxCounted is more than any audience has.
	maxCounted = 1_000_000_000
	// maxSummary is more than any summary of an event takes.
	maxSummary = 4096
)

// batchSteps is after how many steps a batch goes on as a new run, so that its history stays under 5 MB.
const batchSteps = 20

// DeliverBatch delivers an accepted event to one page of a large audience, step by step.
func DeliverBatch(ctx workflow.Context, in BatchInput) (Summary, error) {
	f := &fanOut{events: []webhook.Event{{ID: in.EventID, Type: in.EventType}}, batch: true, summary: in.Summary, sum: in.Sum}
	f.sum.EventID = in.EventID
	for range batchSteps {
		var part delivery.Audience
		ask := delivery.PartOfAudience{EventID: in.EventID, Page: in.Page}
		// Behind a thousand other batches each of its statements waits for a connection: it is not to begin again meanwhile.
		lookup := localActivity(ctx, activities.GroupTimeout, "look up the batch's webhooks")
		if err := workflow.ExecuteLocalActivity(lookup, act.AddressPart, ask).Get(ctx, &part); err != nil {
			return f.sum, err
		}
		err := f.deliver(ctx, f.events, part)
		f.updateDetails(ctx)
		if err != nil || !part.More {
			return f.sum, err
		}
		in.Page.After = part.Last
	}
	in.Sum = f.sum
	return f.sum, workflow.NewContinueAsNewError(ctx, DeliverBatch, in)
}

// batchWorkflowID is the id of one of the workflows that share an event's audience. No event's workflow can have it. It names
// the page, as another run that takes the event over may find other pages: one that was begun already is not one of those.
func batchWorkflowID(eventID string, n int, p delivery.Page) string {
	page := sha256.Sum256(append(p.After[:], p.Upto[:]...))
	return fmt.Sprintf("batch-%s-%d-%x", eventID, n, page[:4])
}

// StartBatch starts the workflow of all.Pages[n], or leaves the one that runs.
func StartBatch(ctx context.Context, c client.Client, a *searchattr.Attributes, all delivery.Batches, n int) error {
	in := BatchInput{EventID: all.EventID, EventType: all.EventType, Summary: all.Summary, Page: all.Pages[n]}
	attributes := temporal.NewSearchAttributes(searchattr.EventType.ValueSet([]string{string(in.EventType)}))
	_, err := a.Start(ctx, c, attributes, client.StartWorkflowOptions{
		ID: batchWorkflowID(in.EventID, n+1, in.Page), TaskQueue: BatchTaskQueue,
		// A batch that is completed and begins again sends nothing twice that Postgres has recorded.
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:         fmt.Sprintf("%s · batch %d of %d", in.Summary, n+1, len(all.Pages)),
	}, DeliverBatch, in)
	return err
}

// startBatches hands the pages of events to workflows of their own, and returns what waits until those have started.
func (f *fanOut) startBatches(ctx workflow.Context, events []webhook.Event, audiences []delivery.EventAudience) (wait func() error) {
	all := workflow.NewWaitGroup(ctx)
	var fault error
	for n, e := range events {
		in := delivery.Batches{EventID: e.ID, EventType: e.Type, Summary: e.Summary(), Pages: audiences[n].Pages}
		if len(in.Pages) == 0 {
			continue
		}
		if f.sum.Batches == 0 {
			f.firstBatch = batchWorkflowID(e.ID, 1, in.Pages[0])
		}
		f.sum.Batches += len(in.Pages)
		options := localActivity(ctx, activities.GroupTimeout, fmt.Sprintf("start %s of event %s", plural(len(in.Pages), "batch workflow"), e.ID))
		all.Add(1)
		workflow.Go(options, func(ctx workflow.Context) {
			defer all.Done()
			for in.Started < len(in.Pages) {
				if err := workflow.ExecuteLocalActivity(ctx, act.StartBatches, in).Get(ctx, &in.Started); err != nil {
					fault = err
					return
				}
			}
		})
	}
	return func() error {
		all.Wait(ctx)
		return fault
	}
}
