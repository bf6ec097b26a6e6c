package api

import (
	"context"
	"errors"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
)

// PingTemporal makes a round trip through Temporal that reads its own database, by asking for a workflow that does not exist:
// its server can report itself healthy when the database is gone (temporalio/temporal issue 11691).
func PingTemporal(ctx context.Context, c client.Client) error {
	_, err := c.DescribeWorkflowExecution(ctx, "ping", "")
	var none *serviceerror.NotFound
	if errors.As(err, &none) {
		return nil
	}
	return err
}
