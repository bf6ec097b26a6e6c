package cli

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

const (
	ownHook   = `{"id":"w1","name":null,"isActive":true,"failureCount":0,"hasSecret":true,"verified":true,"events":["mention"],"url":"https://a.example/?a=1&b=2"}`
	unread    = `{"id":"w2","name":null,"isActive":false,"failureCount":10,"hasSecret":true,"verified":true,"events":["mention"],"url":"https://b.example","unreadable":true,"disabledAt":"2025-03-20T10:30:00.000Z","disabledReason":"failures"}`
	delivered = `{"id":"d1","webhookId":"w1","eventId":"e1","eventType":"mention","payload":{},"attempt":1,"statusCode":204,"responseBody":null,"error":null,"success":true,"durationMs":7,"attemptedAt":"2025-03-20T10:30:00.000Z","trigger":"event"}`
)

// TestWebhooksListIsWhole, however many pages the API makes of it, and its JSON is the API's.
func TestWebhooksListIsWhole(t *testing.T) {
	calls, printed, err := run(t, new(Webhooks), []string{"list", "--json"}, "["+ownHook+"]", "last ["+unread+"]")
	require.NoError(t, err)
	require.Equal(t, []string{"GET /api/bot/v1/webhooks", "GET /api/bot/v1/webhooks?after=y"}, calls)
	require.Equal(t, "["+ownHook+","+unread+"]\n", printed)
	_, printed, err = run(t, new(Webhooks), []string{"list"}, "last ["+ownHook+","+unread+"]")
	require.NoError(t, err)
	require.Contains(t, printed, "cannot decrypt the URL of w2")
	require.Contains(t, printed, "Disabled since 2025-03-20T10:30:00.000Z by failures (w2)")
}

func TestDeliveriesSayThatOlderOnesFollow(t *testing.T) {
	_, printed, err := run(t, new(Webhooks), []string{"deliveries"}, "["+delivered+"]")
	require.NoError(t, err)
	require.Contains(t, printed, "\nOlder ones follow: --before=y\n")
	_, printed, err = run(t, new(Webhooks), []string{"deliveries", "w1"}, "last ["+delivered+"]")
	require.NoError(t, err)
	require.NotContains(t, printed, "Older")
}

func TestCreateSaysThatTheEndpointGetsEventsTwice(t *testing.T) {
	_, printed, err := run(t, new(Webhooks), []string{"create", "https://a.example", "--events", "mention", "--secret", "s"}, `{"id":"w2","duplicateOf":"w1",`+ownHook[len(`{"id":"w1",`):])
	require.NoError(t, err)
	require.Contains(t, printed, "w1 has the same URL (w2)")
}

// TestCreateTellsTheSecretOfWhatMayHaveBeenCreated: its answer was lost, or says that it is not known.
func TestCreateTellsTheSecretOfWhatMayHaveBeenCreated(t *testing.T) {
	stderr := os.Stderr
	defer func() { os.Stderr = stderr }()
	said, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	os.Stderr = said
	_, printed, err := run(t, new(Webhooks), []string{"create", "https://a.example", "--events", "mention"}, "away")
	require.ErrorContains(t, err, "503")
	require.Empty(t, printed)
	text, err := os.ReadFile(said.Name())
	require.NoError(t, err)
	require.Regexp(t, `Its secret then is whsec_[A-Za-z0-9+/=]{44}`, string(text))
}

// TestCreateWithoutASecret: the environment's does not matter then, which may be that of "listen".
func TestCreateWithoutASecret(t *testing.T) {
	t.Setenv("MATHUB_WEBHOOK_SECRET", "of listen")
	create := []string{"create", "https://a.example", "--events", "mention", "--no-secret"}
	calls, _, err := run(t, new(Webhooks), create, ownHook)
	require.NoError(t, err)
	require.NotContains(t, calls[0], "secret")
	calls, _, err = run(t, new(Webhooks), append(create, "--secret", "s"), ownHook)
	require.ErrorContains(t, err, "can't be used together")
	require.Empty(t, calls)
	isUsage(t, err)
}

func TestGetSaysWhyNothingIsSent(t *testing.T) {
	for want, state := range map[string]string{
		"active, but paused by an operator since 2025-03-20T10:30:00.000Z: Maintenance": `"isActive":true,"paused":{"since":"2025-03-20T10:30:00.000Z","reason":"Maintenance"}`,
		"disabled at 2025-03-20T10:30:00.000Z by operator: A loop":                      `"isActive":false,"disabledAt":"2025-03-20T10:30:00.000Z","disabledReason":"operator","disabledNote":"A loop"`,
	} {
		_, printed, err := run(t, new(Webhooks), []string{"get", "w1"}, `{"id":"w1",`+state+`}`)
		require.NoError(t, err)
		require.Contains(t, printed, want)
	}
}

// TestMissedCountsWhatRecoverWouldDeliver: by the same flags.
func TestMissedCountsWhatRecoverWouldDeliver(t *testing.T) {
	calls, _, err := run(t, new(Webhooks), []string{"missed", "w1", "--type", "mention", "--error", "timeout", "--status-class", "none"}, `{"count":0}`)
	require.NoError(t, err)
	require.Equal(t, []string{"GET /api/bot/v1/webhooks/w1/missed?error=timeout&eventType=mention&statusClass=none"}, calls)
}

// TestAnEmptyFlagIsNone: a script's variable that is not set must not be taken for a flag that is not given, which may ask for more.
func TestAnEmptyFlagIsNone(t *testing.T) {
	type all struct {
		Trigger  Trigger  `cmd:""`
		Listen   Listen   `cmd:""`
		Ops      Ops      `cmd:""`
		Webhooks Webhooks `cmd:""`
	}
	for _, line := range []string{
		"webhooks update w1 --enable --url", "webhooks update w1 --enable --name", "webhooks update w1 --enable --secret", "webhooks update w1 --enable --secret-overlap",
		"webhooks update w1 --enable --events", "webhooks update w1 --enable --remove-header", "webhooks create https://a.example --events mention --secret",
		"webhooks retry-now w1 --event", "webhooks recover w1 --type", "webhooks recover w1 --status-class", "webhooks test w1 --event", "listen --events", "listen --forward",
		"trigger post.created --data", "trigger post.created --id", "ops webhooks retry-now w1 --event", "ops webhooks disable w1 --note",
	} {
		args := strings.Fields(line)
		calls, _, err := run(t, new(all), append(args, ""), ownHook)
		require.ErrorContains(t, err, args[len(args)-1]+" is empty", line)
		require.Empty(t, calls, line)
		var code kong.ExitCoder
		require.ErrorAs(t, err, &code)
		require.Equal(t, kongUsage, code.ExitCode(), line)
	}
}

// TestFaultsOfTheCommandLineAreSaidToBeSo by the exit code.
func TestFaultsOfTheCommandLineAreSaidToBeSo(t *testing.T) {
	t.Setenv("MATHUB_KEYSET", "no keyset")
	t.Setenv("MATHUB_DATABASE_URL", "postgres://u@127.0.0.1:1/x")
	_, _, err := run(t, new(Bot), []string{"set", "euler"})
	require.ErrorContains(t, err, "give --notify-url or --notify-secret")
	isUsage(t, err)
	for _, args := range [][]string{{"rotate"}, {"prune"}} {
		_, _, err = run(t, new(Keyset), args)
		isUsage(t, err)
	}
}

func isUsage(t *testing.T, err error) {
	t.Helper()
	var code kong.ExitCoder
	require.True(t, errors.As(err, &code), "%v", err)
	require.Equal(t, exitUsage, code.ExitCode())
}
