package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/oapi-codegen/nullable"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/proto"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/standalone/datadir"
	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/temporal"
	"github.com/mathub/webhooks/standalone/testkit"
	"github.com/mathub/webhooks/webhook"
)

// TestSecretsAreFoundNowhere runs everything with marked secrets, under the least privileges of db/roles.sql, rotates
// them, and then looks for the marks wherever something is kept or said.
func TestSecretsAreFoundNowhere(t *testing.T) {
	t.Parallel()
	port, err := freeport.Find()
	require.NoError(t, err)
	admin := fmt.Sprintf("127.0.0.1:%d", port)
	collector := newCollector(t)
	appEnv := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}
	stack := testkit.Start(t, testkit.Options{
		Env:  map[string]string{"MATHUB_LOG_LEVEL": "debug", "MATHUB_RETRY_SCHEDULE": "1s,1s", "MATHUB_ADMIN_ADDR": admin},
		Apps: []testkit.App{{Args: []string{"serve"}, Env: appEnv}},
		Prepare: func(s *testkit.Stack) {
			ownerURL, appURL := roles(t, s)
			s.SetEnv("MATHUB_DATABASE_URL", ownerURL)
			appEnv["MATHUB_DATABASE_URL"] = appURL
		},
	})
	leastPrivilege(t, appEnv["MATHUB_DATABASE_URL"])

	first, second, third, wrong := "leak1"+datadir.Token(), "leak2"+datadir.Token(), "leak3"+datadir.Token(), "leak4"+datadir.Token()
	urlToken := "leak5" + datadir.Token()
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/failing", testkit.Status(http.StatusServiceUnavailable))
	bot := stack.API().CreateBot(t, "openly-known-name")
	var secrets []string // by what is to be found nowhere
	secrets = append(secrets, first, second, third, wrong, bot.Key, stack.API().ServiceToken, password)

	hook := bot.CreateWebhook(t, receiver.URL("/ok?token="+urlToken), first, post)
	failing := bot.CreateWebhook(t, receiver.URL("/failing?token="+urlToken), first, post)
	refused := bot.CreateWebhook(t, "http://"+admin+"/hook?token="+urlToken, first, post) // our own listener
	cookie := "leak8" + datadir.Token()
	secrets = append(secrets, cookie)
	echo(t, receiver, bot, urlToken, cookie)
	bot.Test(t, hook.ID)
	bot.Patch(t, hook.ID, mathub.WebhookChange{Secret: nullable.NewNullableWithValue(second), SecretOverlap: "1h"})
	event := bot.Emit(t, testkit.Event{Type: post, Data: []byte(`{"openly":"known-data"}`)})
	receiver.Await(t, "/failing", 3) // its retries too
	sent := receiver.Await(t, "/ok", 2)[1]
	require.Equal(t, webhook.Sign(second, sent.Body), sent.Header.Get("X-Mathub-Signature"))
	require.Len(t, strings.Fields(sent.Header.Get("Webhook-Signature")), 2)
	delivery := bot.AwaitDeliveries(t, hook.ID, 2)[0]
	bot.Redeliver(t, delivery.ID, hook.ID)
	bot.AwaitDeliveries(t, refused.ID, 3)
	bot.SetActive(t, failing.ID, false)
	bot.SetActive(t, failing.ID, true)
	bot.Recover(t, failing.ID, &mathub.Span{Since: failing.CreatedAt})
	require.Equal(t, "completed", bot.AwaitRecovery(t, failing.ID).State)

	// The owner of a bot made on the command line is told, at a URL with a token, signed with a secret of its own.
	notifySecret, notifyToken := "leak6"+datadir.Token(), "leak7"+datadir.Token()
	secrets = append(secrets, notifySecret)
	noticed := stack.API().CreateBot(t, "noticed")
	require.Empty(t, stack.Run(t, "bot", "set", "noticed", "--notify-url", receiver.URL("/owner?token="+notifyToken), "--notify-secret", notifySecret))
	dead := noticed.CreateWebhook(t, receiver.URL("/failing?token="+urlToken), "", post)
	for range webhook.MaxFailures {
		noticed.Test(t, dead.ID)
	}
	notice := receiver.Await(t, "/owner", 1)[0]
	require.Equal(t, webhook.Sign(notifySecret, notice.Body), notice.Header.Get("X-Mathub-Signature"))

	// The role that serves may remove what is expired, of which there is nothing yet.
	removal, err := stack.Temporal(t).ExecuteWorkflow(t.Context(), client.StartWorkflowOptions{TaskQueue: emit.TaskQueue}, "RemoveExpired", map[string]any{})
	require.NoError(t, err)
	require.NoError(t, removal.Get(t.Context(), nil))

	var answers bytes.Buffer
	ask := func(method, path, token string, body any) int {
		answer, err := stack.API().Do(t.Context(), method, path, token, body)
		require.NoError(t, err)
		answers.Write(answer.Body)
		return answer.Status
	}
	hooks := "/api/bot/v1/webhooks"
	for _, path := range []string{hooks, hooks + "/" + hook.ID, hooks + "/" + hook.ID + "/deliveries", hooks + "/" + hook.ID + "/deliveries/" + delivery.ID, hooks + "/" + failing.ID + "/recover", "/api/bot/v1/events"} {
		require.Equal(t, http.StatusOK, ask(http.MethodGet, path, bot.Key, nil))
	}
	// What is wrong about a secret is said without it.
	for _, body := range []string{
		`{"secret":"` + third + "\\u0000" + `"}`, `{"secret":"whsec_` + third + `"}`, `{"secret":"` + strings.Repeat(third, 10) + `"}`, `{"secret":["` + third + `"]}`,
		`{"secret":"` + third + `"`, `{"secret":"` + third + "\xff" + `"}`, `{"secret":"` + third + `","secret":"` + third + `"}`, `{"secret":{"` + third + `":1}}`,
		`{"url":"https://user:` + third + `@example.com"}`, `{"url":"https://10.0.0.1/?` + third + `"}`, `{"url":"https://example.com/#` + third + `"}`, `{"url":"https://` + third + "\\u0000" + `"}`,
	} {
		require.Contains(t, []int{http.StatusBadRequest, http.StatusUnprocessableEntity}, ask(http.MethodPatch, hooks+"/"+hook.ID, bot.Key, []byte(body)), body)
	}
	require.Equal(t, http.StatusUnauthorized, ask(http.MethodGet, hooks, wrong, nil))
	require.Equal(t, http.StatusUnauthorized, ask(http.MethodPost, "/api/internal/v1/events", wrong, testkit.Event{Type: post}))
	require.Equal(t, http.StatusOK, ask(http.MethodGet, "/api/internal/v1/bots/"+bot.ID+"/keys", stack.API().ServiceToken, nil))
	require.Contains(t, answers.String(), `{"id":"`+event.ID+`",`, "the serving role gives events their order")
	for _, key := range []string{bot.Key, bot.Key[:len(bot.Key)-1]} { // a leaked one is looked for, which no log and no answer repeats
		require.Equal(t, http.StatusOK, ask(http.MethodPost, "/api/internal/v1/keys/find", stack.API().ServiceToken, map[string]string{"key": key}))
	}

	// The keyset is rotated in two steps, and pruned: the app seals everything anew, and what it signs stays the same.
	keyset := stack.Run(t, "keyset", "rotate", "--later")
	secrets = append(secrets, keyset)
	for _, step := range []string{"rotate", "prune"} {
		stack.SetEnv("MATHUB_KEYSET", keyset)
		stack.Apps[0].Stop(t)
		stack.Apps[0].Start(t)
		if step == "prune" {
			require.Eventually(t, func() bool {
				return bytes.Contains(readAll(t, stack.Apps[0].LogPath()), []byte("encrypted URLs and secrets with the newest key"))
			}, 3*time.Minute, 50*time.Millisecond)
		}
		keyset = stack.Run(t, "keyset", step)
		secrets = append(secrets, keyset)
	}
	stack.SetEnv("MATHUB_KEYSET", keyset)
	stack.Apps[0].Stop(t)
	stack.Apps[0].Start(t)
	bot.Test(t, hook.ID)
	all := receiver.Requests("/ok")
	last := all[len(all)-1]
	require.Equal(t, webhook.Sign(second, last.Body), last.Header.Get("X-Mathub-Signature"))
	require.Len(t, strings.Fields(last.Header.Get("Webhook-Signature")), 2)
	raw, err := base64.StdEncoding.DecodeString(keyset)
	require.NoError(t, err)
	secrets = append(secrets, string(raw))

	stack.Apps[0].Stop(t) // sends the last spans
	stack.Apps[0].Start(t)
	kept := dump(t, stack)
	pgDump(t, stack, kept)
	histories := histories(t, stack)
	logs := readAll(t, stack.Apps[0].LogPath())
	for name, content := range map[string][]byte{
		"goroutines": fetch(t, "http://"+admin+"/debug/pprof/goroutine?debug=2"), "command line": fetch(t, "http://"+admin+"/debug/pprof/cmdline"),
		"traces": collector.received(), "metrics": fetch(t, "http://"+admin+"/metrics"), "answers": answers.Bytes(), "logs": logs, "histories": histories,
	} {
		kept[name] = content
	}
	// It finds what is there: otherwise nothing is proven.
	require.True(t, found(kept["mathub.bots"], "openly-known-name"))
	require.True(t, found(kept["mathub.events"], "known-data"), "bytea")
	require.True(t, found(kept["temporal.history_node"], event.ID), "histories in Temporal's database")
	require.True(t, found(histories, "known-data"))
	require.True(t, found(logs, failing.ID))
	require.True(t, found(kept["traces"], "RunActivity:Deliver"))
	require.True(t, found(kept["traces"], failing.ID))
	require.True(t, found(histories, "traceparent"))
	require.True(t, found(kept["mathub.webhooks"], strings.TrimSuffix(receiver.URL("/"), "/")), "the origin is kept in clear")
	require.True(t, found(kept["mathub.deliveries"], "known-body"), "what the receiver answered")
	for name, content := range kept {
		for _, secret := range secrets {
			require.False(t, found(content, secret), "%s hold a secret: %.12s…", name, secret)
		}
		if name != "answers" { // its owner is shown it
			require.False(t, found(content, urlToken), "%s hold a token of a URL", name)
		}
		require.False(t, found(content, notifyToken), "%s hold a token of a notify URL", name)
	}
	var requests []testkit.Request
	for _, path := range []string{"/ok", "/echo", "/failing", "/owner"} {
		requests = append(requests, receiver.Requests(path)...)
	}
	nothingToTry(t, stack, kept, requests)
}

// password is that of both roles.
const password = "leakpassword0123456789"

// roles makes the roles of db/roles.sql and returns their database URLs.
func roles(t *testing.T, stack *testkit.Stack) (owner, app string) {
	t.Helper()
	script, err := os.ReadFile(filepath.Join("..", "..", "db", "roles.sql"))
	require.NoError(t, err)
	_, err = stack.Database(t).Exec(t.Context(), string(script))
	require.NoError(t, err)
	as := func(role string) string {
		_, err := stack.Database(t).Exec(t.Context(), fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", role, password))
		require.NoError(t, err)
		u, err := url.Parse(stack.DatabaseURL())
		require.NoError(t, err)
		u.User = url.UserPassword(role, password)
		return u.String()
	}
	return as("mathub_owner"), as("mathub_app")
}

// leastPrivilege checks that the role that serves can do no more than it must.
func leastPrivilege(t *testing.T, databaseURL string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	for _, statement := range []string{
		"CREATE TABLE stolen (a int)", "DROP TABLE deliveries", "ALTER TABLE webhooks ADD COLUMN a int", "TRUNCATE deliveries", "CREATE ROLE another",
		"DROP TRIGGER webhooks_changed ON webhooks", "CREATE EXTENSION dblink", "SELECT pg_read_file('/etc/passwd')",
		"UPDATE goose_db_version SET is_applied = false", "DELETE FROM goose_db_version", "TRUNCATE goose_db_version",
		"INSERT INTO goose_db_version (version_id, is_applied) VALUES (99999, true)",
	} {
		_, err := conn.Exec(t.Context(), statement)
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused, statement)
		require.Equal(t, "42501", refused.Code, "%s: %s", statement, refused.Message) // insufficient_privilege
	}
}

// dump is every row of every table of every database, as text, by database and table; bytea is in hex.
func dump(t *testing.T, stack *testkit.Stack) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, database := range []string{servers.MainDatabase, temporal.Database, temporal.VisibilityDatabase} {
		conn, err := pgx.Connect(t.Context(), stack.Servers.DatabaseURL(database))
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close(t.Context())) }()
		rows, err := conn.Query(t.Context(), "SELECT relname FROM pg_class WHERE relkind IN ('r', 'm', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace")
		require.NoError(t, err)
		tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.NotEmpty(t, tables)
		for _, table := range tables {
			name := pgx.Identifier{table}.Sanitize()
			rows, err := conn.Query(t.Context(), "SELECT "+name+"::text FROM "+name)
			require.NoError(t, err)
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.NoError(t, err)
			all[database+"."+table] = []byte(strings.Join(lines, "\n"))
		}
	}
	return all
}

// histories are those of all workflows: inputs, results, summaries.
func histories(t *testing.T, stack *testkit.Stack) []byte {
	t.Helper()
	var all bytes.Buffer
	c := stack.Temporal(t)
	page, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{PageSize: 1000})
	require.NoError(t, err)
	require.Greater(t, len(page.Executions), 5)
	for _, e := range page.Executions {
		for history := c.GetWorkflowHistory(t.Context(), e.Execution.WorkflowId, e.Execution.RunId, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); history.HasNext(); {
			event, err := history.Next()
			require.NoError(t, err)
			encoded, err := proto.Marshal(event)
			require.NoError(t, err)
			all.Write(encoded)
		}
	}
	return all.Bytes()
}

func readAll(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return content
}

func fetch(t *testing.T, address string) []byte {
	t.Helper()
	response, err := http.Get(address)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode)
	return body
}

// found looks for a text as it stands, in hex, in the three shifts that base64 can give it, and percent-encoded.
func found(content []byte, text string) bool {
	forms := []string{text, hex.EncodeToString([]byte(text)), url.QueryEscape(text)}
	for shift := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + text))
		whole := encoded[(shift*8+5)/6 : len(encoded)-1] // without what shares a character with its neighbours
		forms = append(forms, whole, strings.NewReplacer("+", "-", "/", "_").Replace(whole))
	}
	for _, form := range forms {
		if bytes.Contains(content, []byte(form)) {
			return true
		}
	}
	return false
}
