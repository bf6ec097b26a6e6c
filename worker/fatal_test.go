package worker

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc"

	"github.com/mathub/webhooks/workflows"
)

// TestAWorkerThatIsGivenNoMoreTasksSaysSo: the SDK ends its polls where the namespace has been gone for minutes.
func TestAWorkerThatIsGivenNoMoreTasksSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gone := serviceerror.ToStatus(serviceerror.NewNamespaceNotFound("default")).Err()
		noServer := func(_ context.Context, method string, _, _ any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
			if strings.Contains(method, "/Poll") {
				return gone
			}
			return nil
		}
		c, err := client.NewLazyClient(client.Options{
			Logger:            log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
			ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(noServer)}},
		})
		require.NoError(t, err)
		defer c.Close()
		fatal := make(chan error, 1000)
		w := &Worker{client: c, identity: "test", OnFatal: func(err error) { fatal <- err }}
		began := time.Now()
		polls := w.ofWorkflows(workflows.TaskQueue, 10, 1, 1, 1)
		require.NoError(t, polls.Start())
		defer polls.Stop()
		var notFound *serviceerror.NamespaceNotFound
		require.ErrorAs(t, <-fatal, &notFound)
		require.Greater(t, time.Since(began), 2*time.Minute, "a shorter absence is waited out")
	})
}
