package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// TestAWebhooksOwnHeaders: each delivery carries them, tests and verifications included; they change one by one; and no
// answer, log of changes or row says a value.
func TestAWebhooksOwnHeaders(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	path := webhooksPath + "/" + s.subscribe(key, "")
	names := func(got answer, status int) []string {
		t.Helper()
		require.Equal(t, status, got.status, "%s", got.body)
		require.NotContains(t, string(got.body), "canary")
		var view struct{ HeaderNames []string }
		got.into(t, &view)
		return view.HeaderNames
	}
	patch := func(body string) []string { t.Helper(); return names(s.do("PATCH", path, key, body), http.StatusOK) }
	sent := func() http.Header {
		t.Helper()
		require.Equal(t, http.StatusOK, s.do("POST", path+"/test", key, nil).status)
		all := s.requests()
		return all[len(all)-1].header
	}
	require.Equal(t, []string{}, names(s.do("GET", path, key, nil), http.StatusOK))

	require.Equal(t, []string{"Authorization", "X-Tenant"}, patch(`{"headers":{"authorization":"Bearer canary","X-Tenant":"canary 2"}}`))
	require.Equal(t, []string{"Bearer canary", "canary 2"}, []string{sent().Get("Authorization"), sent().Get("X-Tenant")})
	require.Equal(t, []string{"Authorization", "X-Tenant"}, patch(`{"headers":{}}`))
	require.Equal(t, []string{"Authorization", "X-Tenant"}, patch(`{"headers":{"X-TENANT":"canary 3"}}`))
	require.Equal(t, []string{"Bearer canary", "canary 3"}, []string{sent().Get("Authorization"), sent().Get("X-Tenant")})
	require.Equal(t, []string{"X-Tenant"}, patch(`{"headers":{"authorization":null,"X-Absent":null}}`))
	require.NotContains(t, sent(), "Authorization")
	require.Equal(t, []string{"X-Tenant"}, names(s.do("GET", path, key, nil), http.StatusOK))

	var history []map[string]any
	s.do("GET", path+"/deliveries", key, nil).into(t, &history)
	one := s.do("GET", fmt.Sprint(path, "/deliveries/", history[0]["id"]), key, nil)
	require.Contains(t, string(one.body), `{"name":"X-Tenant","value":"***"}`)
	require.NotContains(t, string(one.body), "canary")
	audit := s.do("GET", "/api/bot/v1/audit", key, nil)
	require.Contains(t, string(audit.body), `"headers":["Authorization","X-Tenant"]`)
	require.NotContains(t, string(audit.body), "canary")
	var rows string
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT string_agg(w::text || d::text, '') FROM webhooks w, deliveries d").Scan(&rows))
	require.NotContains(t, rows, fmt.Sprintf("%x", "canary"), "sealed")

	created := s.do("POST", webhooksPath, key, map[string]any{"url": "https://example.com/", "events": []string{"mention"}, "headers": map[string]string{"X-A": "canary"}})
	require.Equal(t, []string{"X-A"}, names(created, http.StatusCreated))
	require.Equal(t, []string{}, patch(`{"headers":{"X-Tenant":null}}`))
	var sealed []byte
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT extras FROM webhooks WHERE id = $1", uuid.MustParse(path[len(webhooksPath)+1:])).Scan(&sealed))
	require.Nil(t, sealed, "a webhook without any is as it was")
}

// TestTheAuditLogSaysWhichHeadersChanged: also where one gets another value and another is added, and not what stays.
func TestTheAuditLogSaysWhichHeadersChanged(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	path := webhooksPath + "/" + a.hook(key)
	for _, change := range []struct {
		headers  string
		replaced bool
	}{{`{"X-A":"1"}`, false}, {`{"X-A":"2","X-B":"1"}`, true}, {`{"X-A":"2","X-B":null}`, false}, {`{"X-A":"3"}`, true}, {`{"X-A":null,"X-C":"1"}`, false}} {
		require.Equal(t, http.StatusOK, a.do("PATCH", path, key, `{"headers":`+change.headers+`}`).status)
		var log []struct{ After map[string]any }
		a.do("GET", "/api/bot/v1/audit", key, nil).into(t, &log)
		_, replaced := log[0].After["headerValues"]
		require.Equal(t, change.replaced, replaced, change.headers)
	}
}

func TestHeadersThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	path := webhooksPath + "/" + a.hook(key)
	for headers, fields := range map[string][]string{
		`[]`:                          {"headers"},
		`"x: y"`:                      {"headers"},
		`{"X-A":1,"X-B":["v"]}`:       {"headers.X-A", "headers.X-B"},
		`{"Host":"a","X-A":"b\r\nc"}`: {"headers.Host", "headers.X-A"},
		`{"X-A":""}`:                  {"headers.X-A"},
		`{"a b":null}`:                {"headers.a b"},
		eleven(t):                     {"headers"},
	} {
		got := a.do("PATCH", path, key, `{"name":"not set","headers":`+headers+`}`)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, headers)
		require.Equal(t, fields, got.fields(t), headers)
		got = a.do("POST", webhooksPath, key, `{"url":"https://example.com/","events":["mention"],"headers":`+headers+`}`)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, headers)
		require.Equal(t, fields, got.fields(t), headers)
	}
	require.NotContains(t, string(a.do("GET", path, key, nil).body), "not set", "nothing is half done")
}

func eleven(t *testing.T) string {
	headers := map[string]string{}
	for i := range 11 {
		headers[fmt.Sprint("X-", i)] = "v"
	}
	text, err := json.Marshal(headers)
	require.NoError(t, err)
	return string(text)
}

// TestHeadersThatNoKeyOpensAreReplaced by a change that says all of them, with the key pair that was beside them; until then a
// call that needs them says at once what does not open.
func TestHeadersThatNoKeyOpensAreReplaced(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	_, key := s.bot()
	path := webhooksPath + "/" + s.subscribe(key, "")
	require.Equal(t, http.StatusOK, s.do("PATCH", path, key, `{"headers":{"X-A":"1","X-B":"2"}}`).status)
	require.Equal(t, http.StatusOK, s.do("POST", path+"/signing-key", key, nil).status)
	s.execute("UPDATE webhooks SET extras = decode('0100000000ffff', 'hex')")
	for _, call := range [][3]string{
		{"POST", path + "/test"}, {"POST", path + "/signing-key"}, {"DELETE", path + "/signing-key"}, {"PATCH", path, `{"headers":{"X-A":"3"}}`},
	} {
		got := s.do(call[0], call[1], key, call[2])
		require.Equal(t, http.StatusServiceUnavailable, got.status, "%v", call)
		require.Contains(t, got.fault(t).Detail, "The headers and keys of webhook", "%v", call)
	}
	got := s.do("PATCH", path, key, `{"headers":{"X-A":"3","X-B":null}}`)
	require.Equal(t, http.StatusOK, got.status, "%s", got.body)
	require.Contains(t, string(got.body), `"headerNames":["X-A"],"publicKeys":[]`)
	require.Equal(t, http.StatusOK, s.do("POST", path+"/test", key, nil).status)
	sent := s.requests()
	require.Equal(t, "3", sent[len(sent)-1].header.Get("X-A"))
	require.Equal(t, http.StatusOK, s.do("POST", path+"/signing-key", key, nil).status)

	// So is removing all of them, and a key pair without headers.
	for _, call := range [][3]string{{"PATCH", path, `{"headers":{"X-A":null}}`}, {"DELETE", path + "/signing-key"}} {
		s.execute("UPDATE webhooks SET extras = decode('0100000000ffff', 'hex')")
		require.Less(t, s.do(call[0], call[1], key, call[2]).status, 300, "%v", call)
		require.Equal(t, http.StatusOK, s.do("POST", path+"/test", key, nil).status, "%v", call)
	}
}
