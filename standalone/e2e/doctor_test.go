package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestDoctor finds nothing wrong with a stack that works, and what is wrong with each that does not, with the fix.
func TestDoctor(t *testing.T) {
	t.Parallel()
	admin, err := freeport.Find()
	require.NoError(t, err)
	stack := testkit.Start(t, testkit.Options{
		Apps: []testkit.App{{Args: []string{"api"}}, {Args: []string{"worker"}, Env: map[string]string{"MATHUB_ADMIN_ADDR": fmt.Sprintf("127.0.0.1:%d", admin)}}},
	})
	db := stack.Database(t)
	_, err = db.Exec(t.Context(), "CREATE DATABASE unmigrated")
	require.NoError(t, err)
	roles, err := os.ReadFile("../../db/roles.sql")
	require.NoError(t, err)
	_, err = db.Exec(t.Context(), string(roles)+"; ALTER ROLE mathub_app PASSWORD 'x'; GRANT SELECT ON webhooks TO mathub_app")
	require.NoError(t, err)
	as := func(change func(*url.URL)) string {
		u, err := url.Parse(stack.DatabaseURL())
		require.NoError(t, err)
		change(u)
		return u.String()
	}
	receiver := testkit.NewReceiver(t)
	type result struct{ Check, Status, Detail, Fix string }
	doctor := func(t *testing.T, env []string, args ...string) (map[string]result, int) {
		tm := openTerminal(t, stack, &testkit.Bot{})
		for _, name := range []string{"MATHUB_DATABASE_URL", "MATHUB_KEYSET", "MATHUB_EGRESS_ALLOW", "MATHUB_EGRESS_ALLOW_HTTP", "TEMPORAL_ADDRESS"} {
			tm.env = append(tm.env, name+"="+stack.Env(name))
		}
		tm.env = append(tm.env, "MATHUB_EGRESS_CHECK=127.0.0.1")
		tm.env = append(tm.env, env...)
		stdout, stderr, code := tm.run(t, append([]string{"doctor", "--json"}, args...)...)
		var findings []result
		require.NoError(t, json.Unmarshal([]byte(stdout), &findings), stdout+stderr)
		byCheck := map[string]result{}
		for _, f := range findings {
			require.Equal(t, f.Status == "failed" || f.Status == "warning", f.Fix != "", "%+v", f)
			require.NotContains(t, f.Detail, "throw-away", "a password")
			byCheck[f.Check] = f
		}
		return byCheck, code
	}

	found, code := doctor(t, nil, "--probe", receiver.URL("/probe"))
	for _, f := range found {
		require.NotEqual(t, "failed", f.Status, "%+v", f)
	}
	require.Zero(t, code)
	for _, check := range []string{
		"settings", "variables", "keyset", "service token", "open files", "Postgres", "migrations", "Postgres privileges", "clock of Postgres", "URLs and secrets",
		"Temporal", "Temporal namespace", "Temporal eager start", "Temporal search attributes", "workers", "workers of large audiences", "workers of queues", "clock of Temporal", "outbound access", "probe",
	} {
		require.Equal(t, "ok", found[check].Status, "%s: %+v", check, found[check])
	}
	require.Equal(t, "note", found["Temporal fairness"].Status)
	require.Len(t, receiver.Requests("/probe"), 1)

	for name, c := range map[string]struct {
		env           string
		check, status string
	}{
		"schedule":         {"MATHUB_RETRY_SCHEDULE=soon", "settings", "failed"},
		"retention":        {"MATHUB_RETENTION=1d", "settings", "failed"},
		"no webhooks":      {"MATHUB_MAX_WEBHOOKS_PER_BOT=0", "settings", "failed"},
		"make run's":       {"MATHUB_UI_PORT=8233", "variables", "ok"},
		"misspelt":         {"MATHUB_RETENTON=30d", "variables", "warning"},
		"no keyset":        {"MATHUB_KEYSET=", "keyset", "failed"},
		"broken keyset":    {"MATHUB_KEYSET=abc", "keyset", "failed"},
		"weak token":       {"MATHUB_SERVICE_TOKEN=secret", "service token", "warning"},
		"no Postgres":      {"MATHUB_DATABASE_URL=" + as(func(u *url.URL) { u.Host = "127.0.0.1:1" }), "Postgres", "failed"},
		"no schema":        {"MATHUB_DATABASE_URL=" + as(func(u *url.URL) { u.Path = "/unmigrated" }), "migrations", "failed"},
		"no privileges":    {"MATHUB_DATABASE_URL=" + as(func(u *url.URL) { u.User = url.UserPassword("mathub_app", "x") }), "Postgres privileges", "failed"},
		"no Temporal":      {"TEMPORAL_ADDRESS=127.0.0.1:1", "Temporal", "failed"},
		"no namespace":     {"TEMPORAL_NAMESPACE=nowhere", "Temporal namespace", "failed"},
		"proxy variable":   {"HTTPS_PROXY=http://127.0.0.1:1", "proxy variables", "note"},
		"no proxy":         {"MATHUB_EGRESS_PROXY=http://u:throw-away@127.0.0.1:1", "probe", "failed"},
		"bad proxy":        {"MATHUB_EGRESS_PROXY=u:throw-away@127.0.0.1:1", "settings", "failed"},
		"no certificate":   {"MATHUB_EGRESS_CLIENT_CERT=/nowhere", "settings", "failed"},
		"too wide":         {"MATHUB_EGRESS_ALLOW=0.0.0.0/0", "allowed networks", "warning"},
		"no probe":         {"MATHUB_EGRESS_ALLOW=", "probe", "failed"},
		"no access":        {"MATHUB_EGRESS_CHECK=127.255.255.255", "outbound access", "warning"},
		"access unknown":   {"MATHUB_EGRESS_CHECK=", "outbound access", "note"},
		"receivers' http":  {"MATHUB_EGRESS_ALLOW_HTTP=true", "http receivers", "warning"},
		"another's keyset": {"MATHUB_KEYSET=" + stack.Run(t, "keyset", "new"), "URLs and secrets", "failed"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "another's keyset" {
				stack.API().CreateBot(t, "sealed").CreateWebhook(t, receiver.URL("/"), "s3cret", post)
			}
			found, code := doctor(t, []string{c.env}, "--probe", receiver.URL("/probe"))
			require.Equal(t, c.status, found[c.check].Status, "%+v", found)
			require.Equal(t, c.status == "failed", code == 1)
		})
	}

	t.Run("the role of db/roles.sql", func(t *testing.T) {
		_, err := db.Exec(t.Context(), "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO mathub_app")
		require.NoError(t, err)
		found, code := doctor(t, []string{"MATHUB_DATABASE_URL=" + as(func(u *url.URL) { u.User = url.UserPassword("mathub_app", "x") })})
		require.Equal(t, "ok", found["Postgres privileges"].Status, "%+v", found)
		require.Zero(t, code)
	})
	t.Run("health checks", func(t *testing.T) {
		tm := openTerminal(t, stack, &testkit.Bot{})
		ask := func(env []string, args ...string) int {
			tm := &terminal{env: append(tm.env[:len(tm.env):len(tm.env)], env...)}
			_, _, code := tm.run(t, append([]string{"healthcheck"}, args...)...)
			return code
		}
		addr := strings.TrimPrefix(stack.Apps[0].URL(), "http://")
		require.Zero(t, ask([]string{"MATHUB_ADDR=" + addr}))
		require.Zero(t, ask([]string{fmt.Sprintf("MATHUB_ADMIN_ADDR=127.0.0.1:%d", admin)}, "--admin"))
		require.Equal(t, 1, ask([]string{"MATHUB_ADMIN_ADDR="}, "--admin"))
		stack.Apps[1].Stop(t)
		require.Equal(t, 1, ask([]string{fmt.Sprintf("MATHUB_ADMIN_ADDR=127.0.0.1:%d", admin)}, "--admin"))
	})
}
