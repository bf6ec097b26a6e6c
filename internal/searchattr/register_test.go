package searchattr_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/internal/testutil"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

func registered(t *testing.T, c client.Client, namespace string) map[string]enums.IndexedValueType {
	t.Helper()
	listed, err := c.OperatorService().ListSearchAttributes(t.Context(), &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	require.NoError(t, err)
	return listed.GetCustomAttributes()
}

// TestManyProcessesRegisterAtOnce, as after a deploy.
func TestManyProcessesRegisterAtOnce(t *testing.T) {
	t.Parallel()
	c, namespace := temporaltest.NewNamespace(t)
	processes := make([]searchattr.Attributes, 8)
	var all sync.WaitGroup
	for i := range processes {
		all.Go(func() {
			require.Eventually(t, func() bool { return processes[i].Register(t.Context(), c, namespace) == nil }, 3*time.Minute, time.Second)
		})
	}
	all.Wait()
	for i := range processes {
		require.True(t, processes[i].Known())
	}
	got := registered(t, c, namespace)
	for name, kind := range map[string]enums.IndexedValueType{
		"MathubEventType": enums.INDEXED_VALUE_TYPE_KEYWORD_LIST, "MathubWebhookId": enums.INDEXED_VALUE_TYPE_KEYWORD_LIST,
		"MathubBotId": enums.INDEXED_VALUE_TYPE_KEYWORD_LIST, "MathubFailed": enums.INDEXED_VALUE_TYPE_BOOL,
		"MathubOutcome": enums.INDEXED_VALUE_TYPE_KEYWORD,
	} {
		require.Equal(t, kind, got[name], name)
	}
	described, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: namespace})
	require.NoError(t, err)
	require.Len(t, described.GetConfig().GetCustomSearchAttributeAliases(), 5, "each once")

	// A later start finds them, and does not wait.
	began := time.Now()
	var later searchattr.Attributes
	require.NoError(t, later.Register(t.Context(), c, namespace))
	require.True(t, later.Known())
	require.Less(t, time.Since(began), 10*time.Second)
}

func TestAnAttributeOfAnotherTypeIsNotUsed(t *testing.T) {
	t.Parallel()
	c, namespace := temporaltest.NewNamespace(t)
	_, err := c.OperatorService().AddSearchAttributes(t.Context(), &operatorservice.AddSearchAttributesRequest{
		Namespace: namespace, SearchAttributes: map[string]enums.IndexedValueType{"MathubFailed": enums.INDEXED_VALUE_TYPE_KEYWORD},
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return registered(t, c, namespace)["MathubFailed"] != 0 }, 3*time.Minute, 50*time.Millisecond)
	var a searchattr.Attributes
	require.ErrorContains(t, a.Register(t.Context(), c, namespace), "MathubFailed has another type")
	require.False(t, a.Known())
}

// TestWhereItIsNotPermittedOneWarningIsAll: a cluster, such as a hosted one, that leaves search attributes to its operators.
func TestWhereItIsNotPermittedOneWarningIsAll(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	refused := 0
	address := os.Getenv("TEMPORAL_ADDRESS")
	require.NotEmpty(t, address, "run the tests with make test")
	c, err := client.NewLazyClient(client.Options{
		HostPort: address, Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler)),
		ConnectionOptions: client.ConnectionOptions{DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(
			func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				if strings.HasSuffix(method, "AddSearchAttributes") {
					mu.Lock()
					refused++
					mu.Unlock()
					return status.Error(codes.PermissionDenied, "Request unauthorized.")
				}
				return invoke(ctx, method, req, reply, conn, opts...)
			},
		)}},
	})
	require.NoError(t, err)
	defer c.Close()
	_, namespace := temporaltest.NewNamespace(t)
	var a searchattr.Attributes
	for range 2 {
		require.ErrorContains(t, a.Register(t.Context(), c, namespace), "unauthorized")
		require.False(t, a.Known())
	}
	require.Equal(t, 2, refused)

	var lines testutil.Buffer
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	go func() {
		defer stop()
		for strings.Count(lines.String(), "level=WARN") == 0 && ctx.Err() == nil {
			time.Sleep(20 * time.Millisecond) // before it looks again
		}
		time.Sleep(2 * time.Second) // for a second line, which must not come
	}()
	a.Keep(ctx, slog.New(slog.NewTextHandler(&lines, nil)), c, namespace)
	require.Equal(t, 1, strings.Count(lines.String(), "level=WARN"), lines.String())
	require.Contains(t, lines.String(), "docs/operations.md")
}

func TestWhileTemporalIsAwayNothingIsKnownAndNothingIsSaid(t *testing.T) {
	t.Parallel()
	c, err := client.NewLazyClient(client.Options{HostPort: "127.0.0.1:1", Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))})
	require.NoError(t, err)
	defer c.Close()
	var a searchattr.Attributes
	var lines testutil.Buffer
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	a.Keep(ctx, slog.New(slog.NewTextHandler(&lines, nil)), c, "default")
	require.False(t, a.Known())
	require.Empty(t, lines.String())
}

func TestListsFit(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"a", "b"}, searchattr.Fitting([]string{"a", "b", "a"}))
	var ids []string
	for i := range 300 {
		ids = append(ids, fmt.Sprintf("%036d", i))
	}
	got := searchattr.Fitting(ids)
	require.Equal(t, ids[:51], got)
	require.Less(t, len(`["`+strings.Join(got, `","`)+`"]`), 2<<10, "Temporal's limit of a value")
	require.Len(t, searchattr.Fitting([]string{strings.Repeat("b", 128)}), 1)
	require.False(t, (*searchattr.Attributes)(nil).Known())
}
