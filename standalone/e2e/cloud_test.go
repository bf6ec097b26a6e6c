package e2e_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/mathub/webhooks/internal/searchattr"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestTemporalCloud runs the product as on Temporal Cloud: by TLS, with an API key, and with no call of the operator service, which
// makes and lists search attributes. Once an operator has made them, MATHUB_SEARCH_ATTRIBUTES=exist uses them, and asks nobody.
func TestTemporalCloud(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{Apps: []testkit.App{{Args: []string{"api"}, Env: map[string]string{"MATHUB_SEARCH_ATTRIBUTES": "none"}}}})
	cloud := startCloud(t, stack)
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/failing", testkit.Status(http.StatusInternalServerError))
	bot := stack.API().CreateBot(t, "cloud")
	bot.CreateWebhook(t, receiver.URL("/well"), "", post)
	serve := func(attributes string) *testkit.App {
		app := stack.NewApp(t, testkit.App{Args: []string{"serve"}, Env: map[string]string{
			"TEMPORAL_ADDRESS": cloud.addr, "TEMPORAL_API_KEY": cloud.key, "TEMPORAL_TLS_SERVER_CA_CERT_PATH": cloud.authority,
			"MATHUB_SEARCH_ATTRIBUTES": attributes, "MATHUB_RETRY_SCHEDULE": "",
		}})
		app.Start(t)
		return app
	}

	app := serve("register")
	stack.APIOf(app).Emit(t, testkit.Event{ID: "before", Type: post, BotIDs: []string{bot.ID}})
	receiver.Await(t, "/well", 1)
	require.Eventually(t, func() bool { return strings.Count(logOf(t, app), "search attributes are missing") == 1 }, 3*time.Minute, 50*time.Millisecond, "it is said once, and all else works")
	app.Stop(t)
	require.Positive(t, cloud.refusals())

	attributes := new(searchattr.Attributes)
	require.NoError(t, attributes.Register(t.Context(), stack.Temporal(t), "default")) // as an operator, by tcld
	refused := cloud.refusals()
	app = serve("exist")
	bot.CreateWebhook(t, receiver.URL("/failing"), "", post)
	stack.APIOf(app).Emit(t, testkit.Event{ID: "after", Type: post, BotIDs: []string{bot.ID}})
	receiver.Await(t, "/well", 2)
	require.Eventually(t, func() bool {
		found, err := stack.Temporal(t).ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{Query: `MathubEventType = "post.created" AND MathubOutcome = "gave-up"`})
		return err == nil && len(found.GetExecutions()) == 1 && found.GetExecutions()[0].GetExecution().GetWorkflowId() == "event-after"
	}, 3*time.Minute, 100*time.Millisecond)
	require.Equal(t, refused, cloud.refusals(), "nobody is asked")
	require.NotContains(t, logOf(t, app), "search attributes are missing")
}

func logOf(t *testing.T, app *testkit.App) string {
	t.Helper()
	log, err := os.ReadFile(app.LogPath())
	require.NoError(t, err)
	return string(log)
}

// cloud is a Temporal that lets a client do what Temporal Cloud does.
type cloud struct {
	operatorservice.UnimplementedOperatorServiceServer
	addr, key, authority string

	mu      sync.Mutex
	refused int
}

func startCloud(t *testing.T, stack *testkit.Stack) *cloud {
	t.Helper()
	c := &cloud{key: "a key", authority: filepath.Join(t.TempDir(), "authority.pem")}
	certified := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	t.Cleanup(certified.Close)
	pemOf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certified.Certificate().Raw})
	require.NoError(t, os.WriteFile(c.authority, pemOf, 0o600))
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: certified.TLS.Certificates, MinVersion: tls.VersionTLS12})),
		grpc.UnaryInterceptor(c.admit),
	)
	passOn, err := proxy.NewWorkflowServiceProxyServer(proxy.WorkflowServiceProxyOptions{Client: stack.Temporal(t).WorkflowService()})
	require.NoError(t, err)
	workflowservice.RegisterWorkflowServiceServer(server, passOn)
	operatorservice.RegisterOperatorServiceServer(server, c)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	c.addr = listener.Addr().String()
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return c
}

// admit lets in who has the key, to workflows alone.
func (c *cloud) admit(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	sent, _ := metadata.FromIncomingContext(ctx)
	if keys := sent.Get("Authorization"); len(keys) != 1 || keys[0] != "Bearer "+c.key {
		return nil, status.Error(codes.Unauthenticated, "no such key")
	}
	if strings.Contains(info.FullMethod, "OperatorService") {
		c.mu.Lock()
		c.refused++
		c.mu.Unlock()
		return nil, status.Error(codes.PermissionDenied, "Request unauthorized.")
	}
	return handle(ctx, request)
}

func (c *cloud) refusals() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused
}
