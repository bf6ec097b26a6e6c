package workflows

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
)

// InvalidEventError is the type of the error that DeliverEvent and DeliverEvents fail with when their input is no valid
// event, or not all of it.
const InvalidEventError = "InvalidEvent"

// DeliverEvent accepts an event and delivers it to every subscribed webhook. Its input is one event as JSON,
// `{id?, event, timestamp?, data, botIds?}`; anything else fails the workflow at once with an InvalidEventError, unless an emitter of
// another version has found it valid (emit.MetadataChecked): that waits for a worker which does so too.
// Without an id, the event's is what follows `event-` in the workflow's id, else a UUIDv7 made from the run's id;
// without a timestamp, it is the time at which the workflow was started.
//
// The input is taken as raw bytes, since data must be forwarded digit for digit.
func DeliverEvent(ctx workflow.Context, input converter.RawValue) (Summary, error) {
	info := workflow.GetInfo(ctx)
	event, err := parseInput(info, input)
	if err != nil {
		return Summary{}, refused(input, err.Error())
	}
	f := &fanOut{events: []webhook.Event{event}, sum: Summary{EventID: event.ID}}
	err = f.run(ctx)
	return f.sum, err
}

// DeliverEvents is DeliverEvent for 1 to webhook.MaxBatchEvents events, an array of them, which share the cost of a
// workflow. Each is accepted, delivered and known by its id by itself. One that is invalid harms no other: when they are
// delivered, the workflow fails with an InvalidEventError that names it. One that waits for a worker of another version holds up no
// other: a workflow of their own delivers them.
func DeliverEvents(ctx workflow.Context, input converter.RawValue) (Summary, error) {
	events, invalid, err := parseInputs(workflow.GetInfo(ctx), input)
	if err != nil {
		return Summary{}, refused(input, err.Error())
	}
	var fault error
	if len(invalid) > 0 {
		if isChecked(input) && len(events) > 0 {
			startKnown(ctx, events)
		}
		fault = refused(input, fmt.Sprintf("%s; the other %d events were delivered", strings.Join(invalid, "; "), len(events)))
	}
	f := &fanOut{events: events, group: true, sum: Summary{Events: len(events)}}
	if len(events) > 0 {
		if err := f.run(ctx); err != nil {
			return f.sum, err
		}
	}
	return f.sum, fault
}

// refused is the workflow's error for input with a fault. Where the emitter found none, as a newer API in a deploy, the events are
// accepted: it panics, and Temporal repeats the workflow's step until a worker makes it that finds none either.
func refused(input converter.RawValue, fault string) error {
	if isChecked(input) {
		panic("an event of another version of the emitter: " + fault)
	}
	return temporal.NewNonRetryableApplicationError(fault, InvalidEventError, nil)
}

// isChecked says that the emitter has found the input valid.
func isChecked(input converter.RawValue) bool {
	_, checked := input.Payload().GetMetadata()[emit.MetadataChecked]
	return checked
}

// knownTime bounds the start of a group's known events: in less than a step's time, so that none of it is recorded before the step fails.
const knownTime = 5 * time.Second

// startKnown has those of a group's events delivered that this worker finds valid. It leaves nothing in the run's history, as the step
// then fails: a worker that knows all of them finds these to be duplicates.
func startKnown(ctx workflow.Context, events []webhook.Event) {
	in := delivery.KnownEvents{WorkflowID: workflow.GetInfo(ctx).WorkflowExecution.ID, Events: events}
	start := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{
		ScheduleToCloseTimeout: knownTime, Summary: "start a workflow of those that are known",
	})
	_ = workflow.ExecuteLocalActivity(start, act.StartKnown, in).Get(ctx, nil) // it is repeated with the step
}

// StartKnown starts the workflow of the known events of a group, unless that has been done.
func StartKnown(ctx context.Context, c client.Client, a *searchattr.Attributes, in delivery.KnownEvents) error {
	attributes := temporal.NewSearchAttributes(searchattr.EventType.ValueSet(searchattr.Types(in.Events)))
	_, err := a.Start(ctx, c, attributes, client.StartWorkflowOptions{
		ID: in.WorkflowID + "-known", TaskQueue: TaskQueue, WorkflowExecutionErrorWhenAlreadyStarted: true,
		WorkflowIDReusePolicy: enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE_FAILED_ONLY,
		StaticSummary:         webhook.BatchSummary(in.Events),
	}, DeliverEvents, emit.Checked(webhook.BatchJSON(in.Events)))
	if temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return nil
	}
	return err
}

// jsonOf is a workflow's input, which must be JSON.
func jsonOf(input converter.RawValue, what string) ([]byte, error) {
	payload := input.Payload()
	if encoding := string(payload.GetMetadata()[converter.MetadataEncoding]); encoding != converter.MetadataEncodingJSON {
		return nil, fmt.Errorf("the input must be %s as JSON (encoding %s), not %q", what, converter.MetadataEncodingJSON, encoding)
	}
	return payload.GetData(), nil
}

func parseInput(info *workflow.Info, input converter.RawValue) (webhook.Event, error) {
	raw, err := jsonOf(input, "one event")
	if err != nil {
		return webhook.Event{}, err
	}
	event, err := webhook.ParseAccepted(raw)
	if err != nil {
		return webhook.Event{}, err
	}
	own, named := strings.CutPrefix(info.WorkflowExecution.ID, emit.WorkflowID(""))
	own = webhook.CanonicalID(own)
	switch {
	case event.ID == "" && named && webhook.ValidID(own):
		event.ID = own
	case event.ID == "":
		event.ID = eventID(info, 0)
	case named && own != event.ID:
		// Whoever emits the event that the workflow is named after would be told that it was accepted.
		return webhook.Event{}, fmt.Errorf("the event's id is %q, but the workflow's id names event %q; must be %q", event.ID, own, emit.WorkflowID(event.ID))
	}
	return event.Complete(info.WorkflowStartTime), nil
}

// parseInputs reads several events, and says what is wrong with those that are invalid.
func parseInputs(info *workflow.Info, input converter.RawValue) (events []webhook.Event, invalid []string, err error) {
	raw, err := jsonOf(input, "an array of events")
	if err != nil {
		return nil, nil, err
	}
	if strings.HasPrefix(info.WorkflowExecution.ID, emit.WorkflowID("")) {
		return nil, nil, fmt.Errorf("the workflow's id must not begin with %q, which is for workflows of one event", emit.WorkflowID(""))
	}
	all, faults, err := webhook.ParseAcceptedBatch(raw)
	if err != nil {
		return nil, nil, err
	}
	seen := make(map[string]bool, len(all))
	for i, event := range all {
		if event.ID == "" {
			event.ID = eventID(info, i)
		}
		switch {
		case faults[i] != nil:
			invalid = append(invalid, fmt.Sprintf("events[%d]: %v", i, faults[i]))
		case !seen[event.ID]: // another of the same id is a duplicate
			seen[event.ID] = true
			events = append(events, event.Complete(info.WorkflowStartTime))
		}
	}
	return events, invalid, nil
}

// eventID is a UUIDv7 (RFC 9562 §5.7) that every replay of the run makes again, for the event at place n.
func eventID(info *workflow.Info, n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", info.OriginalRunID, n))
	id := uuid.UUID(sum[:16])
	ms := info.WorkflowStartTime.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id.String()
}
