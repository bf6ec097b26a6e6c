// Package temporaltest gives each test a Temporal namespace of its own, on a real server.
package temporaltest

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
)

// New returns a client of a new namespace of the server at TEMPORAL_ADDRESS, which `make test` starts; without it the
// test fails. Tests that run workers at once do not take each other's tasks.
func New(t testing.TB) client.Client {
	t.Helper()
	c, _ := NewNamespace(t)
	return c
}

// NewNamespace is New, and says what the namespace is called.
func NewNamespace(t testing.TB) (c client.Client, namespace string) {
	t.Helper()
	address := os.Getenv("TEMPORAL_ADDRESS")
	if address == "" {
		t.Fatal("TEMPORAL_ADDRESS is not set: run the tests with `make test`, which starts a Temporal server for them")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	options := client.Options{
		HostPort: address, Namespace: "test-" + uuid.NewString(), Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(patiently)}},
	}
	namespaces, err := client.NewNamespaceClient(options)
	require.NoError(t, err)
	defer namespaces.Close()
	require.NoError(t, namespaces.Register(ctx, &workflowservice.RegisterNamespaceRequest{
		Namespace: options.Namespace, WorkflowExecutionRetentionPeriod: durationpb.New(24 * time.Hour),
	}))
	c, err = client.DialContext(ctx, options)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	// The server's services learn of the namespace one after the other.
	require.Eventually(t, func() bool {
		_, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{})
		if err == nil {
			_, err = c.DescribeTaskQueue(ctx, "any", 0)
		}
		return err == nil
	}, time.Minute, 50*time.Millisecond)
	return c, options.Namespace
}

const (
	// sdkPatience is what the SDK gives each call that is no poll.
	sdkPatience = 10 * time.Second
	// patience is for a machine on which more runs than the tests: the server takes longer then.
	patience = 2 * time.Minute
)

// patiently makes a call that got the SDK's time with more of it. A caller's own, which is shorter, stays.
func patiently(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	deadline, ok := ctx.Deadline()
	if left := time.Until(deadline); !ok || left > sdkPatience || left < sdkPatience*9/10 {
		return invoke(ctx, method, request, reply, conn, options...)
	}
	longer, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			cancel()
		}
	})()
	return invoke(longer, method, request, reply, conn, options...)
}
