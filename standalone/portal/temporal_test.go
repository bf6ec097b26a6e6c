package portal_test

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
	"github.com/mathub/webhooks/standalone/webui"
)

var listLink = regexp.MustCompile(`http://127\.0\.0\.1:8233(/namespaces/default/workflows\?query=[^)\s]+)`)

// TestTemporalUIFindsWhatWasGivenUp opens the links of docs/operations.md in Temporal's real UI: each finds the event whose deliveries
// were given up, and not the one that arrived; the outcome is a column. With MATHUB_PICTURES it makes the docs' picture.
func TestTemporalUIFindsWhatWasGivenUp(t *testing.T) {
	t.Parallel()
	s := newSiteWith(t, testkit.Options{Env: map[string]string{"MATHUB_RETRY_SCHEDULE": ""}})
	s.receiver.Answer("/failing", testkit.Status(http.StatusServiceUnavailable))
	s.bot.CreateWebhook(t, s.receiver.URL("/well"), "", "post.created", "wiki.edited")
	require.Eventually(t, func() bool { // the search attributes are registered
		s.bot.Emit(t, testkit.Event{Type: "post.created"})
		found, err := s.stack.Temporal(t).CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Query: `MathubEventType = "post.created"`})
		return err == nil && found.GetCount() > 0
	}, time.Minute, 500*time.Millisecond)
	s.bot.CreateWebhook(t, s.receiver.URL("/failing"), "", "post.created")
	s.bot.Emit(t, testkit.Event{ID: "given-up", Type: "post.created"})
	s.bot.Emit(t, testkit.Event{ID: "arrived", Type: "wiki.edited"})
	require.Eventually(t, func() bool {
		found, err := s.stack.Temporal(t).CountWorkflow(t.Context(), &workflowservice.CountWorkflowExecutionsRequest{Query: `MathubOutcome = "gave-up"`})
		return err == nil && found.GetCount() > 0
	}, time.Minute, 100*time.Millisecond)

	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	links := listLink.FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, links)
	b := newTab(t, startUI(t, s.stack), tabOptions{})
	b.Go("/namespaces/default/workflows")
	b.AwaitText("event-arrived")
	columns := `{"default":[{"label":"Status"},{"label":"Workflow ID"},{"label":"MathubOutcome"},{"label":"MathubEventType"},{"label":"Type"},{"label":"Start"}]}`
	encoded, err := json.Marshal(columns)
	require.NoError(t, err)
	do(b, chromedp.Evaluate[any](`localStorage.setItem("namespace-workflow-table-columns", `+string(encoded)+`)`))
	for _, link := range links {
		b.Go(link[1])
		b.AwaitText("event-given-up")
		b.AwaitText("gave-up")
		require.NotContains(t, b.Text("body"), "event-arrived", link[1])
	}
	if folder := os.Getenv("MATHUB_PICTURES"); folder != "" {
		require.NoError(t, os.WriteFile(filepath.Join(folder, "ui-outcome.png"), do(b, chromedp.FullScreenshot(100)), 0o600))
	}
}

// startUI starts Temporal's Web UI as make run does, and returns its URL.
func startUI(t *testing.T, stack *testkit.Stack) string {
	t.Helper()
	port, err := freeport.Find()
	require.NoError(t, err)
	settings := webui.Settings{Port: port, TemporalAddr: stack.TemporalAddr()}
	encoded, err := json.Marshal(settings)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join(testkit.Root(t), "bin", "standalone"), "temporal-web-ui")
	cmd.Env = append(os.Environ(), "MATHUB_STANDALONE_WEBUI="+string(encoded))
	cmd.Stderr = t.Output()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
	})
	starting, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, settings.AwaitReady(starting, nil))
	return strings.TrimSuffix(settings.URL(), "/")
}
