package api

import (
	"context"
	"errors"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/internal/problem"
)

// pingTemporal asks for a workflow that does not exist: the answer comes from Temporal's own database.
func pingTemporal(ctx context.Context, c client.Client) error {
	_, err := c.DescribeWorkflowExecution(ctx, "ping", "")
	var none *serviceerror.NotFound
	if errors.As(err, &none) {
		return nil
	}
	return err
}

// temporalError is how a failed call to Temporal is answered: what can pass is worth another try.
func temporalError(err error) error {
	var refused *serviceerror.InvalidArgument
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return problem.UnavailableFor("Temporal", err)
}
