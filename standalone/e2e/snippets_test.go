package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/portal/snippets"
	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
	"github.com/mathub/webhooks/webhook"
)

// TestPortalSnippets_Verify runs each receiver that the portal shows, with a secret of either form, and sends it what is
// genuine and what is not.
func TestPortalSnippets_Verify(t *testing.T) {
	t.Parallel()
	for form, secret := range map[string]string{"whsec": webhook.NewSecret(), "text": `a "quoted" \ secret, é`} {
		for _, snippet := range snippets.With(secret) {
			t.Run(snippet.Language+" "+form, func(t *testing.T) {
				url, again := runSnippet(t, snippet)
				said, err := again().CombinedOutput()
				require.Error(t, err, "its port is taken")
				require.Contains(t, string(said), "PORT")
				require.LessOrEqual(t, strings.Count(strings.TrimSpace(string(said)), "\n"), 0, "%s", said)
				hangUp(t, strings.Trim(url, "htp:/"))
				floods(t, strings.Trim(url, "htp:/"))
				genuine := webhook.Delivery{
					EventID: "evt_1", Type: webhook.Verify, Secrets: []string{secret}, At: time.Now(),
					Body: []byte(`{"event":"webhook.verify","data":{"nonce":"n0nce"}}`),
				}
				status, answer := postTo(t, url, webhook.Headers(genuine), genuine.Body)
				require.Equal(t, http.StatusOK, status)
				require.Equal(t, "n0nce", answer)
				readsChunks(t, url, webhook.Headers(genuine), genuine.Body)

				refused := func(name string, headers http.Header, body []byte) {
					t.Helper()
					status, answer := postTo(t, url, headers, body)
					require.Equal(t, http.StatusUnauthorized, status, name)
					require.NotContains(t, answer, "n0nce", name)
				}
				refused("another body", webhook.Headers(genuine), []byte(`{"event":"webhook.verify","data":{"nonce":"m0nce"}}`))
				unsigned, other, old := genuine, genuine, genuine
				unsigned.Secrets, other.Secrets, old.At = nil, []string{webhook.NewSecret()}, time.Now().Add(-10*time.Minute)
				refused("unsigned", webhook.Headers(unsigned), genuine.Body)
				refused("another secret", webhook.Headers(other), genuine.Body)
				refused("old", webhook.Headers(old), genuine.Body)
				renamed := webhook.Headers(genuine)
				renamed.Set("Webhook-Id", "evt_2")
				refused("another id", renamed, genuine.Body)
			})
		}
	}
}

// TestPortalSnippets_NeedASecret: with an empty one, anyone could sign.
func TestPortalSnippets_NeedASecret(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0") // so that one that takes it ends, too
	require.NoError(t, err)
	defer taken.Close() //nolint:errcheck // the test is over
	_, port, err := net.SplitHostPort(taken.Addr().String())
	require.NoError(t, err)
	for _, snippet := range snippets.With("") {
		command := snippetCommand(t, snippet)
		for _, none := range []string{"", "whsec_"} {
			cmd := command(t.Context())
			cmd.Env = append(os.Environ(), "PORT="+port, "MATHUB_WEBHOOK_SECRET="+none)
			said, err := cmd.CombinedOutput()
			require.Error(t, err, snippet.Language)
			require.Contains(t, string(said), "the secret is empty", snippet.Language)
		}
	}
}

// snippetCommand makes the commands that run a receiver as its first line says.
func snippetCommand(t *testing.T, snippet snippets.Snippet) func(context.Context) *exec.Cmd {
	t.Helper()
	first, _, _ := strings.Cut(strings.TrimLeft(snippet.Code, "#/ "), "\n")
	name, command, found := strings.Cut(first, ": ")
	require.True(t, found, first)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(snippet.Code), 0o600))
	args := strings.Fields(command)
	if args[0] == "go" { // which would leave its child behind
		build := exec.CommandContext(t.Context(), "go", "build", "-o", "receiver", name)
		build.Dir = dir
		printed, err := build.CombinedOutput()
		require.NoError(t, err, "%s", printed)
		args = []string{filepath.Join(dir, "receiver")}
	} else {
		args[0] = testkit.Tool(t, args[0])
	}
	return func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Dir = dir
		return cmd
	}
}

// runSnippet runs a receiver, and returns its URL once it says that it listens; again runs another there.
func runSnippet(t *testing.T, snippet snippets.Snippet) (url string, again func() *exec.Cmd) {
	t.Helper()
	command := snippetCommand(t, snippet)
	port, err := freeport.Find()
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	again = func() *exec.Cmd {
		cmd := command(ctx)
		cmd.Env = append(os.Environ(), "PORT="+strconv.Itoa(port))
		return cmd
	}
	cmd := again()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = t.Output()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
	})
	said := bufio.NewScanner(out)
	require.True(t, said.Scan(), "it says nothing")
	url = fmt.Sprintf("http://127.0.0.1:%d/", port)
	require.Equal(t, "listening on "+url, said.Text())
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return url, again
}

func postTo(t *testing.T, url string, headers http.Header, body []byte) (status int, answer string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(string(body)))
	require.NoError(t, err)
	request.Header = headers
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	raw, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode, string(raw)
}
