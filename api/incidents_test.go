package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	mathub "github.com/mathub/webhooks/clients/go"
)

const recoveriesPath = "/api/internal/v1/recoveries"

// outage makes bots with a webhook each that failures disabled ten minutes ago.
func (a *testAPI) outage(bots int) (ids, hooks []string) {
	a.t.Helper()
	for range bots {
		id, key := a.bot()
		ids, hooks = append(ids, id), append(hooks, a.hook(key))
	}
	a.execute("UPDATE webhooks SET is_active = false, disabled_reason = 'failures', failure_count = 10, failure_class = 'timeout', disabled_by = gen_random_uuid(), disabled_at = now() - interval '10 minutes'")
	a.execute("INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, error, duration_ms, attempted_at) SELECT disabled_by, id, 'e', 1, false, 'timeout', 5000, now() FROM webhooks")
	return ids, hooks
}

func ago(d time.Duration) string { return time.Now().UTC().Add(-d).Format(time.RFC3339) }

func (a *testAPI) active() (n int) {
	a.t.Helper()
	require.NoError(a.t, a.pool.QueryRow(a.t.Context(), "SELECT count(*) FROM webhooks WHERE is_active").Scan(&n))
	return n
}

// TestAnIncidentIsPlannedBegunAndFollowed without Temporal: it is a row of Postgres, and the next sweep starts it.
func TestAnIncidentIsPlannedBegunAndFollowed(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, func(c *api.Config) { c.TemporalUI, c.Namespace = "http://ui.example/", "default" })
	bots, _ := a.outage(3)
	a.accepted("missed", "post.created", "{}")
	require.Equal(t, "[]\n", string(a.do("GET", recoveriesPath, serviceToken, nil).body))

	got := a.do("POST", recoveriesPath, serviceToken, map[string]any{"disabledSince": ago(time.Hour), "dryRun": true})
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	var planned, i mathub.Incident
	got.into(t, &planned)
	timeout := "timeout"
	plan := mathub.IncidentPlan{
		Webhooks: 3, Bots: 3, Hosts: 1, Errors: []mathub.IncidentError{{Class: "timeout", Error: &timeout, Webhooks: 3}},
		Missed: mathub.IncidentMissed{Events: 3, Sample: 3},
	}
	require.Equal(t, plan, planned.Plan)
	require.Equal(t, []any{"planned", (*string)(nil), 3, (*time.Time)(nil)}, []any{planned.State, planned.ID, planned.Found, planned.StartedAt})
	require.WithinDuration(t, time.Now(), planned.DisabledUntil, time.Minute)
	require.Zero(t, a.active())
	require.Equal(t, "[]\n", string(a.do("GET", recoveriesPath, serviceToken, nil).body), "it changes nothing")

	got = a.do("POST", recoveriesPath, serviceToken, map[string]any{"disabledSince": ago(time.Hour), "disabledUntil": ago(0), "errors": []string{"timeout", "HTTP 503"}, "botIds": bots[:2]})
	require.Equal(t, http.StatusAccepted, got.status, "%s", got.body)
	got.into(t, &i)
	require.Equal(t, []any{"running", 2, 0, 2}, []any{i.State, i.Found, i.Enabled, i.Plan.Webhooks})
	require.Equal(t, []string{"HTTP 503", "timeout"}, i.Errors)
	require.ElementsMatch(t, bots[:2], i.BotIDs)
	require.Equal(t, "service", i.StartedBy.Kind)
	require.Equal(t, "incident-"+*i.ID, *i.Workflow.ID)
	require.Equal(t, "http://ui.example/namespaces/default/workflows/incident-"+*i.ID, *i.Workflow.URL)
	path := recoveriesPath + "/" + *i.ID
	read := func() (now mathub.Incident) {
		a.do("GET", path, serviceToken, nil).into(t, &now)
		return now
	}
	require.Equal(t, i, read())

	for _, state := range []string{"paused", "running", "paused", "cancelled", "cancelled"} {
		got := a.do("PATCH", path, serviceToken, map[string]any{"state": state})
		require.Equal(t, http.StatusOK, got.status, "%s", got.body)
		require.Equal(t, state, read().State)
	}
	got = a.do("PATCH", path, serviceToken, map[string]any{"state": "running"})
	require.Equal(t, http.StatusConflict, got.status)
	require.Contains(t, got.fault(t).Detail, "cancelled, which is final")
	require.Equal(t, []string{"incident.cancelled", "incident.paused", "incident.resumed", "incident.paused", "incident.started"}, a.actions())
	require.Zero(t, a.active())
}

// actions are what the audit log has of incidents, newest first.
func (a *testAPI) actions() (actions []string) {
	a.t.Helper()
	var entries []mathub.AuditEntry
	a.do("GET", "/api/internal/v1/audit", serviceToken, nil).into(a.t, &entries)
	for _, e := range entries {
		if strings.HasPrefix(e.Action, "incident.") {
			actions = append(actions, e.Action)
		}
	}
	return actions
}

func TestIncidentsAreListedPageByPage(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	var ids []string
	for range 120 {
		ids = append(ids, uuid.Must(uuid.NewV7()).String())
	}
	a.execute(`INSERT INTO incidents (id, disabled_since, disabled_until, errors, bot_ids, plan, actor_kind, actor_id, actor_name, client, request)
		SELECT unnest($1::uuid[]), now(), now(), '{}', '{}', '{"errors":[]}', 'service', '', '', '', ''`, ids)
	items, pages := a.pages(recoveriesPath, serviceToken)
	require.Equal(t, 3, pages)
	slices.Reverse(ids)
	for i, item := range items {
		require.Equal(t, ids[i], item["id"])
	}
	require.Len(t, items, 120)
}

func TestIncidentsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bots, _ := a.outage(1)
	many := func(n int, text string) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprint(text, i))
		}
		return list
	}
	since := ago(time.Hour)
	for name, c := range map[string]struct {
		body    string
		field   string
		message string
	}{
		"no since":             {`{}`, "disabledSince", "is required"},
		"no time":              {`{"disabledSince":"yesterday"}`, "disabledSince", "RFC 3339"},
		"reversed":             {`{"disabledSince":"` + since + `","disabledUntil":"` + ago(2*time.Hour) + `"}`, "disabledSince", "must not be after disabledUntil"},
		"a future since":       {`{"disabledSince":"` + ago(-time.Hour) + `"}`, "disabledSince", "future"},
		"a future until":       {`{"disabledSince":"` + since + `","disabledUntil":"` + ago(-time.Hour) + `"}`, "disabledUntil", "future"},
		"an error in capitals": {`{"disabledSince":"` + since + `","errors":["timeout","TIMEOUT"]}`, "errors[1]", "http_5xx, http_other"},
		"NUL in an error":      {`{"disabledSince":"` + since + `","errors":["dns: \u0000"]}`, "errors[0]", `"HTTP 503"`},
		"a long error":         {`{"disabledSince":"` + since + `","errors":["dns: ` + strings.Repeat("x", 200) + `"]}`, "errors[0]", `"HTTP 503"`},
		"a status of success":  {`{"disabledSince":"` + since + `","errors":["HTTP 200"]}`, "errors[0]", `"HTTP 503"`},
		"no errors":            {`{"disabledSince":"` + since + `","errors":[]}`, "errors", "1 to 20"},
		"many errors":          {`{"disabledSince":"` + since + `","errors":["` + strings.Join(many(21, "dns: "), `","`) + `"]}`, "errors", "1 to 20"},
		"no list":              {`{"disabledSince":"` + since + `","errors":"timeout"}`, "errors", "array of strings"},
		"no string":            {`{"disabledSince":"` + since + `","errors":["timeout",1]}`, "errors[1]", "must be a string"},
		"null":                 {`{"disabledSince":"` + since + `","botIds":[null]}`, "botIds[0]", "must be a string"},
		"unknown bots":         {`{"disabledSince":"` + since + `","botIds":["nobody","` + bots[0] + `","no/id","nobody"]}`, "botIds", "unknown: no/id, nobody"},
		"many unknown bots":    {`{"disabledSince":"` + since + `","botIds":["` + strings.Join(many(30, "b"), `","`) + `"]}`, "botIds", "and 10 more"},
		"no bots":              {`{"disabledSince":"` + since + `","botIds":[]}`, "botIds", "1 to 1000"},
		"many bots":            {`{"disabledSince":"` + since + `","botIds":["` + strings.Join(many(1001, "b"), `","`) + `"]}`, "botIds", "1 to 1000"},
		"dryRun as text":       {`{"disabledSince":"` + since + `","dryRun":"yes"}`, "dryRun", "true or false"},
	} {
		got := a.do("POST", recoveriesPath, serviceToken, c.body)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, "%s: %s", name, got.body)
		fault := got.fault(t).Errors
		require.Equal(t, c.field, fault[0].Field, name)
		require.Contains(t, fault[0].Message, c.message, name)
	}
	require.Zero(t, a.active())
	require.Equal(t, "[]\n", string(a.do("GET", recoveriesPath, serviceToken, nil).body))

	_, key := a.bot()
	for _, token := range []string{"", key} {
		require.Equal(t, http.StatusUnauthorized, a.do("POST", recoveriesPath, token, `{"disabledSince":"`+since+`"}`).status)
	}
	nowhere := recoveriesPath + "/" + uuid.NewString()
	require.Equal(t, http.StatusNotFound, a.do("GET", nowhere, serviceToken, nil).status)
	require.Equal(t, http.StatusNotFound, a.do("GET", recoveriesPath+"/x", serviceToken, nil).status)
	require.Equal(t, http.StatusNotFound, a.do("PATCH", nowhere, serviceToken, `{"state":"paused"}`).status)
	for _, body := range []string{`{}`, `{"state":"completed"}`, `{"state":null}`, `{"state":1}`} {
		require.Equal(t, []string{"state"}, a.do("PATCH", nowhere, serviceToken, body).fields(t), body)
	}
	require.Equal(t, []string{"before"}, a.do("GET", recoveriesPath+"?before=x", serviceToken, nil).fields(t))
}
