package cli

import (
	"errors"
	"os"
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

// TestAnEmptyFlagIsNone: a script's variable that is not set must not be taken for nothing to change, beside what else it asks for.
func TestAnEmptyFlagIsNone(t *testing.T) {
	for _, flag := range []string{"--url", "--name", "--secret", "--secret-overlap"} {
		calls, _, err := run(t, new(Webhooks), []string{"update", "w1", "--enable", flag, ""}, ownHook)
		require.EqualError(t, err, flag+" is empty")
		require.Empty(t, calls)
		isUsage(t, err)
	}
	type trigger struct {
		Trigger Trigger `cmd:""`
	}
	calls, _, err := run(t, new(trigger), []string{"trigger", "post.created", "--data", ""}, "{}")
	require.ErrorContains(t, err, "data: is required")
	require.Empty(t, calls, "no sample is emitted in its place")
	isUsage(t, err)
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
