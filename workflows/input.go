package workflows

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/mathub/webhooks/activities"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/webhook"
)

// Register makes the workflows known to a worker.
func Register(r worker.WorkflowRegistry) {
	for name, run := range Registered() {
		r.RegisterWorkflowWithOptions(run, workflow.RegisterOptions{Name: name})
	}
}

// StuckQuery finds, in Temporal's lists, the workflows that no worker seems to take.
func StuckQuery(now time.Time) string {
	return searchattr.StuckQuery(TaskQueue, slices.Sorted(maps.Keys(Registered())), now)
}

// Registered are the workflows that a worker runs, by their names in histories. Each checks its input and fails at once when
// it is invalid, with an error that names the fault.
func Registered() map[string]any {
	return map[string]any{
		"DeliverEvent":    DeliverEvent,
		"DeliverEvents":   DeliverEvents,
		"DeliverBatch":    checked(DeliverBatch, BatchInput.check),
		"WebhookQueue":    checked(func(ctx workflow.Context, in QueueInput) (any, error) { return nil, WebhookQueue(ctx, in) }, QueueInput.check),
		"SendTest":        checked(SendTest, TestInput.check),
		"VerifyEndpoint":  checked(VerifyEndpoint, checkMade(verifyPrefix)),
		"Redeliver":       checked(Redeliver, checkRedelivery),
		"Recover":         checked(Recover, checkRecovery),
		"RecoverIncident": checked(RecoverIncident, IncidentInput.check),
		"NotifyDisabled":  checked(NotifyDisabled, checkNotice),
		"SendTestNotice":  checked(SendTestNotice, checkNoticeTest),
		"RemoveExpired":   checked(RemoveExpired, checkRemoval),
	}
}

// checked is a workflow that fails for good where its input cannot be read, or check finds it at fault. check gets the
// workflow's id, which may be a lease.
func checked[In, Out any](run func(workflow.Context, In) (Out, error), check func(in In, workflowID string) error) func(workflow.Context, converter.RawValue) (Out, error) {
	return func(ctx workflow.Context, raw converter.RawValue) (Out, error) {
		var in In
		err := decode(raw, &in)
		if err == nil {
			err = check(in, workflow.GetInfo(ctx).WorkflowExecution.ID)
		}
		if err != nil {
			var none Out
			return none, temporal.NewNonRetryableApplicationError(err.Error(), activities.InvalidInput, nil)
		}
		out, err := run(ctx, in)
		// That an activity found it to be at fault is the workflow's own failure, for good.
		var fault *temporal.ApplicationError
		if errors.As(err, &fault) && fault.Type() == activities.InvalidInput {
			err = temporal.NewNonRetryableApplicationError(fault.Message(), activities.InvalidInput, nil)
		}
		return out, err
	}
}

// decode reads an input, and names the field that is of a wrong type.
func decode(raw converter.RawValue, into any) error {
	data, err := jsonOf(raw, "one value")
	if err != nil {
		return err
	}
	err = json.Unmarshal(data, into, json.MatchCaseInsensitiveNames(true))
	var wrong *json.SemanticError
	if errors.As(err, &wrong) {
		field := strings.ReplaceAll(strings.TrimPrefix(string(wrong.JSONPointer), "/"), "/", ".")
		if field == "" {
			field = "input"
		}
		return webhook.Invalid(field, "is of a wrong type or form")
	}
	if err != nil {
		return fmt.Errorf("the input is not valid JSON: %w", err)
	}
	return nil
}

// checkID holds a workflow's id against the one that ours has. Where it is a lease, another would break it.
func checkID(id, want string) error {
	if id != want {
		return webhook.Invalid("workflow id", fmt.Sprintf("must be %q", want))
	}
	return nil
}

// checkTarget finds what no webhook of ours has.
func checkTarget(field string, t delivery.Target) error {
	switch {
	case t.WebhookID == uuid.Nil:
		return webhook.Invalid(field+"webhookId", "is required")
	case len(t.BotID) > webhook.MaxIDBytes:
		return webhook.Invalid(field+"botId", "must be a bot's id")
	case len(t.Host) > webhook.MaxURLBytes:
		return webhook.Invalid(field+"host", "must be a host")
	}
	return nil
}

// checkMade holds the input of a workflow that makes an event for one webhook, whose id follows the prefix in its own.
func checkMade(prefix string) func(webhookID uuid.UUID, workflowID string) error {
	return func(webhookID uuid.UUID, workflowID string) error {
		eventID, ok := strings.CutPrefix(workflowID, prefix)
		switch {
		case webhookID == uuid.Nil:
			return webhook.Invalid("webhookId", "is required")
		case !ok || !webhook.ValidID(eventID):
			return webhook.Invalid("workflow id", fmt.Sprintf("must be %q and the id of an event that does not exist yet", prefix))
		}
		return nil
	}
}

func checkRedelivery(a delivery.Attempt, workflowID string) error {
	a.Trigger = webhook.TriggerRedeliver
	if err := a.Check(); err != nil {
		return err
	}
	return checkID(workflowID, redeliveryWorkflowID(a))
}

func checkRecovery(t delivery.Target, workflowID string) error {
	if err := checkTarget("", t); err != nil {
		return err
	}
	return checkID(workflowID, recoverWorkflowID(t.WebhookID))
}
