package e2e_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// whatHappened is how a bot developer finds out what became of events, from the webhook's making on.
func whatHappened(t *testing.T, stack *testkit.Stack) {
	receiver := testkit.NewReceiver(t)
	bot := stack.API().CreateBot(t, "history")
	tm := openTerminal(t, stack, bot)
	does := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := tm.run(t, args...)
		require.Zero(t, code, "%v\n%s%s", args, stdout, stderr)
		return stdout
	}

	stdout, stderr, code := tm.run(t, "webhooks", "create", receiver.URL("/hook"), "--events", "post.created,mention", "--name", "Euler")
	require.Zero(t, code, stderr)
	secret := regexp.MustCompile(`whsec_\S+`).FindString(stderr)
	require.NotEmpty(t, secret, "it is signed, and the secret is printed once")
	require.NotContains(t, stdout, secret)
	hook := regexp.MustCompile(`(?m)^([0-9a-f-]{36}) `).FindStringSubmatch(stdout)[1]
	require.Regexp(t, `(?m)^Signed +yes$`, does("webhooks", "get", hook))
	_, stderr, code = tm.run(t, "webhooks", "create", receiver.URL("/unsigned"), "--events", "mention", "--no-secret")
	require.Zero(t, code, stderr)
	require.NotContains(t, stderr, "whsec_")

	bot.Emit(t, testkit.Event{Type: post, ID: "taken", Data: []byte(`{"body":"a\u001b[2Jb"}`)})
	receiver.Await(t, "/hook", 1)
	receiver.Answer("/hook", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Why", "tired")
		w.WriteHeader(http.StatusTeapot)
		_, _ = w.Write([]byte("no\x1b[2J tea\nleft"))
	})
	bot.Emit(t, testkit.Event{Type: post, ID: "refused"})
	receiver.Await(t, "/hook", 2)
	bot.AwaitDeliveries(t, hook, 2)

	all := does("webhooks", "deliveries")
	require.Contains(t, all, " taken ")
	require.Contains(t, all, " refused ")
	failed := does("webhooks", "deliveries", hook, "--failed", "--status-class", "4xx", "--type", post, "--since", "1h", "--error", "HTTP 418")
	require.NotContains(t, failed, " taken ")
	require.Len(t, strings.Split(strings.TrimSpace(failed), "\n"), 2)
	require.NotContains(t, does("webhooks", "deliveries", hook, "--until", "1h"), "refused")
	require.Contains(t, does("webhooks", "deliveries", hook, "--succeeded", "--event", "taken", "--trigger", "event"), " taken ")

	fields := strings.Fields(strings.Split(failed, "\n")[1])
	one := does("webhooks", "delivery", hook, fields[len(fields)-1])
	for _, want := range []string{
		`(?m)^Outcome +HTTP 418$`, `(?m)^Took +[0-9.]+ ms: .*first byte`, `(?m)^Next +attempt 2 at 20`, `(?m)^Webhook-Id: refused$`, `(?m)^X-Why: tired$`,
		`(?m)^no\\u001b\[2J tea$`, `(?m)^left$`, `"event": "post.created"`,
	} {
		require.Regexp(t, want, one)
	}
	require.NotContains(t, one, "\x1b")

	page := does("events", "--types", post, "--limit", "1")
	require.Contains(t, page, "1 events, more follow: --after=")
	_, cursor, _ := strings.Cut(strings.TrimSpace(page), "--after=")
	page = does("events", "--after", cursor, "--wait", "10s")
	require.Contains(t, page, " refused ")
	require.NotContains(t, page, "\x1b")

	does("webhooks", "update", hook, "--disable")
	require.Regexp(t, `(?m)^State +disabled at 20\S+ by owner$`, does("webhooks", "get", hook))
	accepted := bot.Emit(t, testkit.Event{Type: post, ID: "missed"})
	require.NoError(t, stack.Temporal(t).GetWorkflow(t.Context(), accepted.WorkflowID, "").Get(t.Context(), nil))
	require.Regexp(t, ` missed +\{`, does("events"))
	missed := does("webhooks", "missed", hook, "--since", "1h")
	require.Contains(t, missed, "2 events missed, accepted from ")
	require.Contains(t, missed, " missed\n")
	receiver.Answer("/hook", testkit.Status(http.StatusNoContent))
	does("webhooks", "update", hook, "--enable")
	require.Regexp(t, `completed +1 +1 `, does("webhooks", "recover", hook, "--status-class", "4xx", "--since", "1h", "--wait"))
	require.Contains(t, does("webhooks", "test", hook, "--event", post), " test ")
}

// completions are what a shell makes of the script that the program prints for it.
func completions(t *testing.T, stack *testkit.Stack) {
	tm := openTerminal(t, stack, stack.API().CreateBot(t, "completion"))
	for shell, script := range map[string]string{
		"bash": `eval "$(mathub-webhooks completion bash)"; COMP_WORDS=(mathub-webhooks "$@"); COMP_CWORD=$#; _mathub_webhooks; printf '%s\n' "${COMPREPLY[@]}"`,
		"zsh":  `compdef() { :; }; compadd() { print -l -- "${(@)found}"; }; _files() { :; }; eval "$(mathub-webhooks completion zsh)"; words=(mathub-webhooks "$@"); CURRENT=$#words; _mathub_webhooks`,
	} {
		for _, c := range []struct{ typed, want string }{
			{"webhooks deliver", "deliveries delivery"},
			{"webhooks deliveries --status-c", "--status-class"},
			{"webhooks deliveries --trigger re", "retry redeliver recover"},
			{"webhooks create --secret x", ""},
			{"completion z", ""},
			{"compl", "completion"},
		} {
			args := append([]string{"-c", script, shell}, strings.Fields(c.typed)...)
			printed, err := tm.command(t.Context(), shell, args...).CombinedOutput()
			require.NoError(t, err, "%s", printed)
			require.Equal(t, c.want, strings.Join(strings.Fields(string(printed)), " "), "%s: %s", shell, c.typed)
		}
	}
	_, stderr, code := tm.run(t, "completion", "tcsh")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "bash")
}
