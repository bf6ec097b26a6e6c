package webhook

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestAgrees(t *testing.T) {
	const nonce = "JBSWY3DPEHPK3PXPJBSWY3DPEH"
	asked := VerifyEvent(uuid.New(), "bot", nonce, time.Now()).Body()
	for name, c := range map[string]struct {
		answer string
		agrees bool
	}{
		"JSON":                       {`{"nonce":"` + nonce + `"}`, true},
		"JSON with more":             {"{\n  \"ok\": true,\n  \"nonce\": \"" + nonce + "\"\n}\n", true},
		"JSON after a BOM":           {"\uFEFF" + `{"nonce":"` + nonce + `"}`, true},
		"text":                       {nonce, true},
		"text with a line's end":     {nonce + "\r\n", true},
		"a JSON string":              {`"` + nonce + `"`, true},
		"nothing":                    {"", false},
		"ok":                         {"ok", false},
		"an empty nonce":             {`{"nonce":""}`, false},
		"no text":                    {`{"nonce":17}`, false},
		"another nonce":              {`{"nonce":"` + strings.ToLower(nonce) + `"}`, false},
		"more than the nonce":        {nonce + nonce, false},
		"what was sent, unread":      {string(asked), false},
		"what was sent, in a page":   {"<html><pre>" + string(asked) + "</pre></html>", false},
		"what was sent, in a member": {`{"json":` + string(asked) + `}`, false},
		"cut off":                    {`{"nonce":"` + nonce, false},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.agrees, Agrees(asked, []byte(c.answer)))
		})
	}
	require.False(t, Agrees([]byte(`{"event":"test","data":{}}`), []byte(`{"nonce":""}`)), "an event without a nonce")
}

func TestVerifyEvent(t *testing.T) {
	id := uuid.New()
	e := VerifyEvent(id, "bot", "n", time.Date(2025, 3, 20, 10, 30, 0, 0, time.UTC))
	require.JSONEq(t, `{"event":"webhook.verify","timestamp":"2025-03-20T10:30:00.000Z","data":{"webhookId":"`+id.String()+`","botId":"bot","nonce":"n"}}`, string(e.Body()))
	require.Error(t, e.Validate(), "nobody can emit it")
	_, err := CheckSubscription([]string{string(Verify)})
	require.Error(t, err, "nobody can subscribe to it")
	spec, ok := Spec(Verify)
	require.True(t, ok)
	var sent struct{ Data map[string]any }
	require.NoError(t, json.Unmarshal(e.Body(), &sent))
	for _, f := range spec.Fields {
		require.Contains(t, sent.Data, f.Name)
	}
}

func TestPartyOf(t *testing.T) {
	for url, want := range map[string]string{
		"https://example.com/hook?a=b":  "example.com:443",
		"https://example.com:443":       "example.com:443",
		"https://example.com:8443/hook": "example.com:8443",
		"http://127.0.0.1/hook":         "127.0.0.1:80",
		"https://[2001:db8::1]/":        "[2001:db8::1]:443",
		"https://[2001:db8::1]:8443/":   "[2001:db8::1]:8443",
		"https://a.b.example.com/":      "example.com:443",
		"https://x.example.co.uk/":      "example.co.uk:443",
		"https://x.someone.github.io/":  "someone.github.io:443",
		"https://github.io/":            "github.io:443",
		"https://h1.localhost:8443/":    "localhost:8443",
		"https://printer/":              "printer:443",
	} {
		require.Equal(t, want, PartyOf(url), url)
	}
	// Whatever way one writes a host in, it is one host.
	for _, url := range []string{"https://Example.COM/a", "https://example.com./b", "https://example.com:443/c", "HTTPS://EXAMPLE.com:0443?d"} {
		stored, err := URLRules{}.Check(url)
		require.NoError(t, err, url)
		require.Equal(t, "example.com:443", PartyOf(stored), url)
	}
}

func TestRate_UnmarshalText(t *testing.T) {
	for text, want := range map[string]Rate{
		"500,50/s": {500, 50}, "off": {}, "10, 0.5 /s": {10, 0.5}, "1,60/m": {1, 1}, "5,1/h": {5, 1.0 / 3600}, "1000000,1000000/s": {1e6, 1e6},
	} {
		var r Rate
		require.NoError(t, r.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, r, text)
		var again Rate
		require.NoError(t, again.UnmarshalText([]byte(r.String())))
		require.Equal(t, r, again, text)
	}
	for _, text := range []string{"", "500", "500,50", "50/s", "0,50/s", "-1,50/s", "500,0/s", "500,-1/s", "500,50/d", "500,NaN/s", "500,Inf/s", "1.5,1/s", "1000001,1/s", "1,0.5/h", "OFF", "500,50/s,1"} {
		r := Rate{7, 7}
		require.Error(t, r.UnmarshalText([]byte(text)), text)
		require.Equal(t, Rate{7, 7}, r, text)
	}
	require.Equal(t, "500,50/s", DefaultUnverifiedRate.String())
	require.Equal(t, "off", Rate{}.String())
}
