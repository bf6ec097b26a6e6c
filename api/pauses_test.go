package api_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
)

const pausesPath = "/api/internal/v1/pauses"

// TestPausesOverTheAPI are begun, listed and ended; faults name the field.
func TestPausesOverTheAPI(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	call := func(method, query, body string, status int) answer {
		t.Helper()
		var sent any
		if body != "" {
			sent = body
		}
		got := a.do(method, pausesPath+query, serviceToken, sent)
		require.Equal(t, status, got.status, "%s", got.body)
		return got
	}
	require.JSONEq(t, `[]`, string(call("GET", "", "", 200).body))
	var begun, again, all mathub.Pause
	call("PUT", "", `{"scope":"host","value":"EXAMPLE.com","reason":"one"}`, 200).into(t, &begun)
	require.Equal(t, []string{"host", "example.com", "one", "service"}, []string{begun.Scope, *begun.Value, begun.Reason, begun.By})
	call("PUT", "", `{"scope":"host","value":"example.com","reason":"two"}`, 200).into(t, &again)
	require.Equal(t, begun.Since, again.Since)
	call("PUT", "", `{"scope":"all","reason":"three"}`, 200).into(t, &all)
	require.Nil(t, all.Value)
	call("PUT", "", `{"scope":"bot","value":"`+bot+`","reason":"four"}`, 200)
	var list []mathub.Pause
	call("GET", "", "", 200).into(t, &list)
	require.Equal(t, []mathub.Pause{all, again}, []mathub.Pause{list[0], list[2]})
	require.Len(t, list, 3)

	first := call("GET", "?limit=2", "", 200)
	require.Equal(t, `<`+pausesPath+`?after=bot%3A`+bot+`&limit=2>; rel="next"`, first.header.Get("Link"))
	var rest []mathub.Pause
	last := call("GET", "?limit=2&after=bot:"+bot, "", 200)
	last.into(t, &rest)
	require.Equal(t, []mathub.Pause{again}, rest)
	require.Empty(t, last.header.Get("Link"))

	for _, c := range []struct {
		method, query, body string
		status              int
		field               string
	}{
		{"GET", "?limit=101", "", 422, "limit"},
		{"GET", "?after=x", "", 422, "after"},
		{"PUT", "", `{"reason":"r"}`, 422, "scope"},
		{"PUT", "", `{"scope":"everything","reason":"r"}`, 422, "scope"},
		{"PUT", "", `{"scope":1,"reason":"r"}`, 422, "scope"},
		{"PUT", "", `{"scope":"all","value":"x","reason":"r"}`, 422, "value"},
		{"PUT", "", `{"scope":"host","value":"a:1","reason":"r"}`, 422, "value"},
		{"PUT", "", `{"scope":"bot","reason":"r"}`, 422, "value"},
		{"PUT", "", `{"scope":"bot","value":"nobody","reason":"r"}`, 404, ""},
		{"PUT", "", `{"scope":"all"}`, 422, "reason"},
		{"PUT", "", `{"scope":"all","reason":"r","until":"x"}`, 400, "until"},
		{"DELETE", "", "", 422, "scope"},
		{"DELETE", "?scope=host", "", 422, "value"},
		{"DELETE", "?scope=host&value=example.org", "", 404, ""},
		{"DELETE", "?scope=all&value=x", "", 422, "value"},
		{"DELETE", "?scope=all&scope=bot", "", 422, "scope"},
		{"DELETE", "?scope=all&host=x", "", 422, "host"},
	} {
		got := a.do(c.method, pausesPath+c.query, serviceToken, c.body)
		require.Contains(t, []int{c.status}, got.status, "%v: %s", c, got.body)
		if c.field != "" {
			require.Equal(t, c.field, got.fault(t).Errors[0].Field, "%v", c)
		}
	}
	require.Equal(t, http.StatusUnauthorized, a.do("GET", pausesPath, key, nil).status)

	call("DELETE", "?scope=host&value=Example.COM.", "", 204)
	call("DELETE", "?scope=all", "", 204)
	call("DELETE", "?scope=bot&value="+bot, "", 204)
	require.JSONEq(t, `[]`, string(call("GET", "", "", 200).body))
	var entries []struct{ Action string }
	require.NoError(t, json.Unmarshal(a.do("GET", "/api/internal/v1/audit?botId="+bot, serviceToken, nil).body, &entries))
	require.Equal(t, "deliveries.resumed", entries[0].Action)
}

// TestWhatOwnersMayDoWhileDeliveriesArePaused: they read why, change their webhooks, and are told what cannot be done. Events
// are accepted, and are delivered afterwards.
func TestWhatOwnersMayDoWhileDeliveriesArePaused(t *testing.T) {
	t.Parallel()
	s := newSystemWith(t, []time.Duration{time.Hour})
	_, key := s.bot()
	hook := s.subscribe(key, "")
	first := s.test(key, hook)
	before := len(s.requests())
	require.Nil(t, s.webhook(key, hook).Paused)
	require.Equal(t, http.StatusOK, s.do("PUT", pausesPath, serviceToken, `{"scope":"host","value":"127.0.0.1","reason":"We move."}`).status)

	paused := s.webhook(key, hook).Paused
	require.Equal(t, "We move.", paused.Reason)
	require.WithinDuration(t, time.Now(), paused.Since, time.Minute)
	for _, path := range []string{"/test", "/verify", "/retry-now", "/deliveries/" + first.ID + "/redeliver"} {
		got := s.do("POST", webhooksPath+"/"+hook+path, key, nil)
		require.Equal(t, http.StatusConflict, got.status, "%s: %s", path, got.body)
		require.Equal(t, "Deliveries of this webhook are paused by an operator since "+paused.Since.Format("2006-01-02T15:04:05.000Z")+": We move.", got.fault(t).Detail)
	}
	var events int
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM events").Scan(&events))
	require.Equal(t, 1, events, "nothing is stored")
	require.Equal(t, http.StatusOK, s.do("PATCH", webhooksPath+"/"+hook, key, `{"name":"Changed","isActive":true}`).status)
	var list []mathub.WebhookDetail
	s.do("GET", webhooksPath, key, nil).into(t, &list)
	require.NotNil(t, list[0].Paused)
	second := s.subscribe(key, s.receiver+"/second")
	s.emit(`{"event":"post.created","data":{"n":1}}`)
	require.Eventually(t, func() bool { return len(s.planned(hook)) == 1 && len(s.planned(second)) > 0 }, 3*time.Minute, 10*time.Millisecond)
	require.Len(t, s.requests(), before)

	require.Equal(t, http.StatusNoContent, s.do("DELETE", pausesPath+"?scope=host&value=127.0.0.1", serviceToken, nil).status)
	require.Eventually(t, func() bool { return len(s.deliveries(key, hook)) == 2 && len(s.deliveries(key, second)) > 0 }, 3*time.Minute, 50*time.Millisecond)
	require.Nil(t, s.webhook(key, hook).Paused)
}
