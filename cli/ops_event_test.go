package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const foundEvent = `{"id":"post-p1","eventType":"post.created","timestamp":"2025-03-20T10:30:00.000Z","acceptedAt":"2025-03-20T10:30:00.012Z",
"botIds":["bot-a","bot-b"],"payloadBytes":1034,"payload":{"data":{"body":"\u009b2J","more":"PADDING"}},
"workflow":{"id":"event-post-p1","runId":"run-1","url":"http://127.0.0.1:8233/namespaces/default/workflows/event-post-p1/run-1"},
"audience":{"webhooks":3,"delivered":1,"failed":1,"waiting":1,"more":true},
"webhooks":[
{"webhookId":"w1","botId":"bot-a","host":"a.example","isActive":true,"outcome":"delivered","attempts":1,"lastAttemptAt":"2025-03-20T10:30:00.041Z","lastStatusCode":204,"lastError":null,"nextAttemptAt":null},
{"webhookId":"w2","botId":"bot-b","host":"b.example","isActive":false,"outcome":"failed","attempts":8,"lastAttemptAt":"2025-03-21T10:30:00.041Z","lastStatusCode":503,"lastError":"HTTP 503","nextAttemptAt":null},
{"webhookId":"w3","botId":"bot-b","host":"c.example","isActive":true,"outcome":"waiting","attempts":0,"lastAttemptAt":null,"lastStatusCode":null,"lastError":null,"nextAttemptAt":"2025-03-20T10:30:31.000Z"}]}`

const shownEvent = `Event     post-p1
Type      post.created
Happened  2025-03-20T10:30:00.000Z
Accepted  2025-03-20T10:30:00.012Z
Goes to   bot-a, bot-b
Workflow  event-post-p1
Run       run-1
Web UI    http://127.0.0.1:8233/namespaces/default/workflows/event-post-p1/run-1
Payload   1034 bytes: {"data":{"body":"\u009b2J","more":"PADDING"}}
Webhooks  3, and more that were not counted: 1 delivered, 1 failed, 1 waiting

OUTCOME    ATTEMPTS  LAST ATTEMPT              ANSWER    NEXT ATTEMPT              ACTIVE  HOST       BOT    WEBHOOK
delivered  1         2025-03-20T10:30:00.041Z  HTTP 204  -                         yes     a.example  bot-a  w1
failed     8         2025-03-21T10:30:00.041Z  HTTP 503  -                         no      b.example  bot-b  w2
waiting    0         -                         -         2025-03-20T10:30:31.000Z  yes     c.example  bot-b  w3

More webhooks follow: --after=w3
`

// opsEvent runs the command against an API that answers so, and returns what it was asked and what it printed.
func opsEvent(t *testing.T, c opsEventCommand, answer http.HandlerFunc) (asked *http.Request, printed string, err error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r
		answer(w, r)
	}))
	defer server.Close()
	c.API, c.ServiceToken = server.URL, "service-token"
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = writer
	err = c.Run(t.Context()) // what it prints fits into the pipe
	os.Stdout = stdout
	require.NoError(t, writer.Close())
	out, readErr := io.ReadAll(reader)
	require.NoError(t, readErr)
	return asked, string(out), err
}

func TestAnEventIsShown(t *testing.T) {
	found := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", `</api/internal/v1/events/post-p1?after=w3&outcome=failed>; rel="next"`)
		_, _ = io.WriteString(w, foundEvent)
	}
	asked, printed, err := opsEvent(t, opsEventCommand{ID: "post-p1"}, found)
	require.NoError(t, err)
	require.Equal(t, "/api/internal/v1/events/post-p1", asked.URL.String())
	require.Equal(t, "Bearer service-token", asked.Header.Get("Authorization"))
	require.Equal(t, shownEvent, printed)

	asked, printed, err = opsEvent(t, opsEventCommand{ID: "post-p1", Outcome: "failed", After: "w1", outputFlags: outputFlags{JSON: true}}, found)
	require.NoError(t, err)
	require.Equal(t, "/api/internal/v1/events/post-p1?after=w1&outcome=failed", asked.URL.String())
	require.Equal(t, foundEvent+"\n", printed, "as it came")

	_, printed, err = opsEvent(t, opsEventCommand{ID: "post-p1"}, func(w http.ResponseWriter, _ *http.Request) {
		long := strings.Replace(foundEvent, "PADDING", strings.Repeat("x", 1000), 1)
		var e map[string]any
		require.NoError(t, json.Unmarshal([]byte(long), &e))
		e["botIds"], e["webhooks"] = nil, []any{}
		e["workflow"].(map[string]any)["url"] = nil
		require.NoError(t, json.NewEncoder(w).Encode(e))
	})
	require.NoError(t, err)
	require.Contains(t, printed, "Goes to   every bot\n")
	require.Contains(t, printed, "Web UI    unknown: the API runs without MATHUB_TEMPORAL_UI")
	require.Contains(t, printed, "xxx…\n")
	require.NotContains(t, printed, strings.Repeat("x", 500))
	require.NotContains(t, printed, "OUTCOME")
	require.NotContains(t, printed, "--after")
}

func TestAnEventThatIsNotFoundIsSaidToBeSo(t *testing.T) {
	_, printed, err := opsEvent(t, opsEventCommand{ID: "post-p2"}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprint(w, `{"status":404,"detail":"The event is not known."}`)
	})
	require.EqualError(t, err, "404 Not Found: The event is not known.")
	require.Empty(t, printed)

	asked, _, err := opsEvent(t, opsEventCommand{ID: "../bots"}, http.NotFound)
	require.ErrorContains(t, err, "must be 1 to 128")
	require.True(t, errors.As(err, new(usageError)))
	require.Nil(t, asked)
}
