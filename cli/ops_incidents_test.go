package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
)

const (
	incidentID   = "0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e90"
	incidentJSON = `{"id":"0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e90","state":"STATE","disabledSince":"2025-03-20T10:00:00.000Z","disabledUntil":"2025-03-20T10:30:00.000Z",
"errors":["timeout"],"botIds":null,"plan":{"webhooks":1000,"bots":50,"hosts":640,"errors":[{"class":"timeout","error":"timeout","webhooks":980},{"class":"http_5xx","error":null,"webhooks":20}],
"moreErrors":false,"missed":{"events":24000,"estimated":true,"atLeast":false,"sample":10}},
"found":1000,"enabled":998,"skipped":2,"recovering":0,"recovered":900,"failed":FAILED,"reasons":[{"state":"skipped","reason":"enabled meanwhile","webhooks":2}],
"startedBy":{"kind":"service","id":null,"name":"ada","keyId":null,"linkId":null,"client":null,"requestId":null},"startedAt":"2025-03-20T10:40:00.000Z","endedAt":ENDED,
"workflow":{"id":"incident-0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e90","url":null}}`
	shownIncident = `Incident       0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e90
State          paused
Disabled       from 2025-03-20T10:00:00.000Z to 2025-03-20T10:30:00.000Z
Errors         timeout
Bots           all
Missed events  24000 (estimated from 10 webhooks)
Webhooks       1000: 998 enabled, 2 skipped
Recoveries     0 running, 900 completed, 0 failed
Started        2025-03-20T10:40:00.000Z by service ada
Ended          -
Workflow       incident-0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e90
Web UI         unknown: the API runs without MATHUB_TEMPORAL_UI

WEBHOOKS  BECAME   REASON
2         skipped  enabled meanwhile
`
	shownPlan = `WEBHOOKS  BOTS  HOSTS  MISSED EVENTS
1000      50    640    24000 (estimated from 10 webhooks)

WEBHOOKS  CLASS     ERROR
980       timeout   timeout
20        http_5xx  -
`
)

func incident(state string, failed, ended string) string {
	return strings.NewReplacer("STATE", state, "FAILED", failed, "ENDED", ended).Replace(incidentJSON)
}

// opsRun parses a command line of ops and runs it against an API that gives these answers, one a call, the last for ever.
func opsRun(t *testing.T, args string, answers ...string) (calls []string, printed string, err error) {
	t.Helper()
	return run(t, new(Ops), strings.Fields(args), answers...)
}

// run is the same of any commands. An answer that begins with "last" has no next page.
func run(t *testing.T, commands any, args []string, answers ...string) (calls []string, printed string, err error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		calls = append(calls, strings.TrimSpace(r.Method+" "+r.URL.String()+" "+string(body)))
		answer := answers[min(len(calls), len(answers))-1]
		if answer == "away" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if answer == "" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		answer, isLast := strings.CutPrefix(answer, "last ")
		if !isLast {
			w.Header().Set("Link", `</x?before=y>; rel="next"`)
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer server.Close()
	t.Setenv("MATHUB_API", server.URL)
	t.Setenv("MATHUB_SERVICE_TOKEN", "service-token")
	t.Setenv("MATHUB_BOT_KEY", "bot_key")
	parser, err := kong.New(commands)
	require.NoError(t, err)
	command, err := parser.Parse(args)
	if err != nil {
		return nil, "", err
	}
	command.BindTo(t.Context(), (*context.Context)(nil))
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = writer
	err = command.Run() // what it prints fits into the pipe
	os.Stdout = stdout
	require.NoError(t, writer.Close())
	out, readErr := io.ReadAll(reader)
	require.NoError(t, readErr)
	return calls, string(out), err
}

func TestIncidentsArePlannedBegunAndChanged(t *testing.T) {
	for name, c := range map[string]struct{ args, call, answer, printed string }{
		"plan": {
			args:   "incidents plan --since 2025-03-20T10:00:00Z --until 2025-03-20T10:30:00Z --error timeout --error http_5xx --bot b1 --bot b2",
			call:   `POST /api/internal/v1/recoveries {"disabledSince":"2025-03-20T10:00:00Z","disabledUntil":"2025-03-20T10:30:00Z","errors":["timeout","http_5xx"],"botIds":["b1","b2"],"dryRun":true}`,
			answer: incident("planned", "0", "null"), printed: shownPlan,
		},
		"dry run": {
			args:   "incidents recover --since 2025-03-20T10:00:00+01:00 --dry-run",
			call:   `POST /api/internal/v1/recoveries {"disabledSince":"2025-03-20T09:00:00Z","dryRun":true}`,
			answer: incident("planned", "0", "null"), printed: shownPlan,
		},
		"recover": {
			args:   "incidents recover --since 2025-03-20T10:00:00Z",
			call:   `POST /api/internal/v1/recoveries {"disabledSince":"2025-03-20T10:00:00Z"}`,
			answer: incident("paused", "0", "null"), printed: shownIncident,
		},
		"get":    {args: "incidents get " + incidentID, call: "GET /api/internal/v1/recoveries/" + incidentID, answer: incident("paused", "0", "null"), printed: shownIncident},
		"pause":  {args: "incidents pause " + incidentID, call: "PATCH /api/internal/v1/recoveries/" + incidentID + ` {"state":"paused"}`, answer: incident("paused", "0", "null"), printed: shownIncident},
		"resume": {args: "incidents resume " + incidentID, call: "PATCH /api/internal/v1/recoveries/" + incidentID + ` {"state":"running"}`, answer: incident("paused", "0", "null"), printed: shownIncident},
		"cancel": {args: "incidents cancel " + incidentID, call: "PATCH /api/internal/v1/recoveries/" + incidentID + ` {"state":"cancelled"}`, answer: incident("paused", "0", "null"), printed: shownIncident},
		"list": {
			args: "incidents list --before x", call: "GET /api/internal/v1/recoveries?before=x", answer: "[" + incident("completed", "3", "null") + "]",
			printed: `INCIDENT                              STATE      STARTED                   WEBHOOKS  ENABLED  SKIPPED  RECOVERING  RECOVERED  FAILED
` + incidentID + `  completed  2025-03-20T10:40:00.000Z  1000      998      2        0           900        3

Older incidents follow: --before=` + incidentID + "\n",
		},
		"json": {args: "incidents get --json " + incidentID, call: "GET /api/internal/v1/recoveries/" + incidentID, answer: incident("paused", "0", "null"), printed: incident("paused", "0", "null") + "\n"},
	} {
		calls, printed, err := opsRun(t, c.args, c.answer)
		require.NoError(t, err, name)
		require.Equal(t, []string{c.call}, calls, name)
		require.Equal(t, c.printed, printed, name)
	}
}

func TestTheSpanOfAnIncidentMayBeSoLongAgo(t *testing.T) {
	calls, _, err := opsRun(t, "incidents plan --since 2h --until 90m", incident("planned", "0", "null"))
	require.NoError(t, err)
	var sent struct{ DisabledSince, DisabledUntil time.Time }
	_, body, _ := strings.Cut(calls[0], "recoveries ")
	require.NoError(t, json.Unmarshal([]byte(body), &sent))
	require.WithinDuration(t, time.Now().Add(-2*time.Hour), sent.DisabledSince, time.Minute)
	require.WithinDuration(t, time.Now().Add(-90*time.Minute), sent.DisabledUntil, time.Minute)
	for _, args := range []string{"incidents plan", "incidents recover --since yesterday", "incidents recover --since -2h", "incidents get", "incidents pause"} {
		_, _, err := opsRun(t, args, "")
		require.Error(t, err, args)
	}
}

func TestACommandWaitsForTheEndOfAnIncident(t *testing.T) {
	const ended = `"2025-03-20T11:00:00.000Z"`
	calls, printed, err := opsRun(t, "incidents recover --since 2025-03-20T10:00:00Z --wait", incident("running", "0", "null"), "away", incident("running", "0", "null"), incident("completed", "0", ended))
	require.NoError(t, err)
	require.Len(t, calls, 4)
	require.Contains(t, printed, "State          completed\n")

	_, _, err = opsRun(t, "incidents get --wait "+incidentID, incident("completed", "1", ended))
	require.ErrorIs(t, err, errFailed)
	_, _, err = opsRun(t, "incidents get --wait "+incidentID, incident("running", "0", "null"), incident("cancelled", "0", ended))
	require.ErrorIs(t, err, errFailed)
	require.False(t, errors.As(err, new(usageError)), "the exit code is 1")
}
