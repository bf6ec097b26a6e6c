package e2e_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/temporal"
	"github.com/mathub/webhooks/standalone/testkit"
)

// weak is a secret that stands in every dictionary.
const weak = "s3cret"

// echo sends an event to a webhook with a weak secret whose receiver answers with all that it was sent, and more: the
// signatures in a header and in the body, the URL in a redirect and in the body with the secret and the webhook's own header,
// and cookie, which opens a session there.
func echo(t *testing.T, receiver *testkit.Receiver, bot *testkit.Bot, urlToken, cookie string) {
	t.Helper()
	receiver.Answer("/echo", func(w http.ResponseWriter, r *http.Request) {
		signatures := r.Header.Get("X-Mathub-Signature") + " " + r.Header.Get("Webhook-Signature") + " " + r.Header.Get("Authorization")
		w.Header().Set("Set-Cookie", "sid="+cookie)
		w.Header().Set("Authorization", "Bearer "+cookie)
		w.Header().Set("X-Openly", "known-header "+signatures)
		w.Header().Set("Location", "https://example.com"+r.URL.RequestURI())
		w.WriteHeader(http.StatusFound)
		_, _ = w.Write([]byte("known-body " + signatures + " " + r.URL.RequestURI() + " " + weak))
	})
	hook := bot.CreateWebhook(t, receiver.URL("/echo?token="+urlToken), weak, post)
	credential := "Bearer " + cookie
	bot.Patch(t, hook.ID, mathub.WebhookChange{Headers: mathub.CustomHeaders{"Authorization": &credential}})
	sent := bot.Test(t, hook.ID)
	require.Equal(t, http.StatusFound, *sent.StatusCode)
	require.Contains(t, *sent.ResponseBody, "known-body ")
}

// pgDump adds to kept what pg_dump makes of each database, where this machine has it beside the server.
func pgDump(t *testing.T, stack *testkit.Stack, kept map[string][]byte) {
	t.Helper()
	var programs string
	require.NoError(t, stack.Database(t).QueryRow(t.Context(), "SELECT setting FROM pg_config() WHERE name = 'BINDIR'").Scan(&programs))
	program, err := exec.LookPath(filepath.Join(programs, "pg_dump"))
	if err != nil { // the programs that are fetched have none; the rows alone are in kept then
		return
	}
	for _, database := range []string{servers.MainDatabase, temporal.Database, temporal.VisibilityDatabase} {
		dump, err := exec.CommandContext(t.Context(), program, stack.Servers.DatabaseURL(database)).Output()
		require.NoError(t, err)
		require.Contains(t, string(dump), "COPY public.")
		kept["pg_dump of "+database] = dump
	}
}

// nothingToTry tries a dictionary, with the secret in it, on a dump: no signature is there that a guess could be compared
// with, as it was sent or as the payloads give it.
func nothingToTry(t *testing.T, stack *testkit.Stack, kept map[string][]byte, sent []testkit.Request) {
	t.Helper()
	var macs []string
	for _, r := range sent {
		for _, value := range []string{r.Header.Get("X-Mathub-Signature"), r.Header.Get("Webhook-Signature")} {
			for entry := range strings.FieldsSeq(value) {
				macs = append(macs, strings.TrimPrefix(entry, "v1,"))
			}
		}
	}
	require.NotEmpty(t, macs)
	rows, err := stack.Database(t).Query(t.Context(), "SELECT payload FROM events")
	require.NoError(t, err)
	payloads, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(t, err)
	require.NotEmpty(t, payloads)
	for _, payload := range payloads {
		for _, guess := range []string{"secret", "password", weak} {
			mac := hmac.New(sha256.New, []byte(guess))
			mac.Write(payload)
			macs = append(macs, string(mac.Sum(nil)), hex.EncodeToString(mac.Sum(nil)))
		}
	}
	for name, content := range kept {
		for _, mac := range macs {
			require.False(t, found(content, mac), "%s hold a signature: %.12q…", name, mac)
		}
	}
}
