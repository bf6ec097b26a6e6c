package workflows

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
)

// Planned asks the RetryDelivery of an event and webhook for its next attempt; nil: there is none. A worker has to
// answer, so that the error is ctx's where none is up.
func Planned(ctx context.Context, c client.Client, eventID string, webhookID uuid.UUID) (*RetryStatus, error) {
	id := RetryWorkflowID(eventID, webhookID)
	// First, since a query would wake the history of a workflow that has long ended.
	run, err := c.DescribeWorkflowExecution(ctx, id, "")
	var none *serviceerror.NotFound
	if errors.As(err, &none) {
		return nil, nil //nolint:nilnil // nothing is planned
	}
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", id, err)
	}
	info := run.GetWorkflowExecutionInfo()
	if info.GetStatus() != enums.WORKFLOW_EXECUTION_STATUS_RUNNING {
		return nil, nil //nolint:nilnil // as above
	}
	answer, err := c.QueryWorkflow(ctx, id, info.GetExecution().GetRunId(), StatusQuery)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", id, err)
	}
	var status RetryStatus
	if err := answer.Get(&status); err != nil {
		return nil, fmt.Errorf("query %s: %w", id, err)
	}
	return &status, nil
}
