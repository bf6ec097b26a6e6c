package api_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func must(t testing.TB, id string) uuid.UUID {
	t.Helper()
	parsed, err := uuid.Parse(id)
	require.NoError(t, err)
	return parsed
}

// malformedBodies are refused with 400 wherever JSON is taken; each names the field it is the fault of, if any.
var malformedBodies = map[string]string{
	``: "", `{`: "", `nil`: "", `{"url":NaN}`: "", "\xef\xbb\xbf": "", `{} {}`: "", `[]`: "", `"x"`: "", `null`: "",
	`{"unknown":1}`: "unknown", `{"URL":"https://example.com"}`: "URL", `{"Name":"x"}`: "Name",
	"{\"secret\":\"\xff\"}": "", `{"secret":"\ud800"}`: "",
	`{"data":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`: "",
}

func TestMalformedBodies(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id := a.hook(key)
	for _, door := range []struct{ method, path, token string }{
		{"POST", webhooksPath, key},
		{"PATCH", webhooksPath + "/" + id, key},
		{"POST", "/api/internal/v1/bots", serviceToken},
		{"POST", "/api/internal/v1/events", serviceToken},
	} {
		for body, field := range malformedBodies {
			if door.path == "/api/internal/v1/bots" && field == "" && strings.Contains(body, "data") {
				continue
			}
			got := a.do(door.method, door.path, door.token, body)
			require.Equal(t, http.StatusBadRequest, got.status, "%s %s %.60q: %s", door.method, door.path, body, got.body)
			if field != "" {
				require.Equal(t, []string{field}, got.fields(t), "%s %.60q", door.path, body)
			}
		}
		for _, twice := range []string{`{"url":"https://a.example","url":"https://b.example"}`, `{"name":"a","name":"b"}`, `{"event":"mention","event":"mention"}`} {
			require.Equal(t, http.StatusBadRequest, a.do(door.method, door.path, door.token, twice).status, twice)
		}
		for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"} {
			req, err := http.NewRequestWithContext(t.Context(), door.method, a.url+door.path, strings.NewReader(`{}`))
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+door.token)
			if contentType != "" {
				req.Header.Set("Content-Type", contentType)
			}
			require.Equal(t, http.StatusUnsupportedMediaType, a.send(req).status, contentType)
		}
		limit := 64 << 10
		if strings.HasSuffix(door.path, "/events") {
			limit = 256 << 10
		}
		big := strings.Repeat(" ", limit+1)
		require.Equal(t, http.StatusRequestEntityTooLarge, a.do(door.method, door.path, door.token, big).status)
		req, err := http.NewRequestWithContext(t.Context(), door.method, a.url+door.path, io.MultiReader(strings.NewReader(big))) // chunked, of no stated length
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+door.token)
		req.Header.Set("Content-Type", "application/json; charset=UTF-8")
		require.Equal(t, http.StatusRequestEntityTooLarge, a.send(req).status)
	}
}

var invalidFields = []struct{ body, field string }{
	{`{"url":5}`, "url"},
	{`{"url":""}`, "url"},
	{`{"url":"example.com"}`, "url"},
	{`{"url":"ftp://example.com"}`, "url"},
	{`{"url":"https://user:pw@example.com"}`, "url"},
	{`{"url":"https://example.com/#x"}`, "url"},
	{`{"url":"https://10.0.0.1"}`, "url"},
	{`{"url":"https://0x0a000001"}`, "url"},
	{`{"url":"https://printer.local"}`, "url"},
	{`{"url":"https://example.com/` + strings.Repeat("x", 2048) + `"}`, "url"},
	{`{"url":"https://example.com/\u0000"}`, "url"},
	{`{"url":"https://169.254.169.254/"}`, "url"},
	{`{"events":"mention"}`, "events"},
	{`{"events":[]}`, "events"},
	{`{"events":{}}`, "events"},
	{`{"events":["mention","post.deleted"]}`, "events[1]"},
	{`{"events":["test"]}`, "events[0]"},
	{`{"events":[5]}`, "events[0]"},
	{`{"events":[null]}`, "events[0]"},
	{`{"secret":""}`, "secret"},
	{`{"secret":5}`, "secret"},
	{`{"secret":"` + strings.Repeat("x", 257) + `"}`, "secret"},
	{`{"secret":"a\u0000b"}`, "secret"},
	{`{"secret":"whsec_not base64"}`, "secret"},
}

func TestInvalidWebhookFieldsAreNamedAndNothingIsHalfDone(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	id := a.hook(key)
	before := string(a.do("GET", webhooksPath+"/"+id, key, nil).body)
	for _, c := range append(invalidFields, []struct{ body, field string }{{`{"isActive":"true"}`, "isActive"}, {`{"isActive":1}`, "isActive"}}...) {
		// Beside it, what is well-formed must not be done either.
		body := strings.TrimSuffix(c.body, "}")
		for field, value := range map[string]string{"url": `"https://example.org"`, "events": `["wiki.edited"]`, "isActive": "false"} {
			if !strings.HasPrefix(c.field, field) {
				body += fmt.Sprintf(",%q:%s", field, value)
			}
		}
		got := a.do("PATCH", webhooksPath+"/"+id, key, body+"}")
		require.Equal(t, http.StatusUnprocessableEntity, got.status, "%.80s: %s", c.body, got.body)
		require.Equal(t, []string{c.field}, got.fields(t), "%.80s", c.body)
		require.Equal(t, before, string(a.do("GET", webhooksPath+"/"+id, key, nil).body))
	}
	for _, c := range append(invalidFields, []struct{ body, field string }{{`{"url":null}`, "url"}, {`{"events":null}`, "events"}}...) {
		body := strings.TrimSuffix(c.body, "}")
		for field, value := range map[string]string{"url": `"https://example.org"`, "events": `["wiki.edited"]`} {
			if !strings.HasPrefix(c.field, field) {
				body += fmt.Sprintf(",%q:%s", field, value)
			}
		}
		got := a.do("POST", webhooksPath, key, body+"}")
		require.Equal(t, http.StatusUnprocessableEntity, got.status, "%.80s: %s", c.body, got.body)
		require.Equal(t, []string{c.field}, got.fields(t), "%.80s", c.body)
	}
	require.ElementsMatch(t, []string{"url", "events"}, a.do("POST", webhooksPath, key, `{}`).fields(t))
	unknown := a.do("POST", webhooksPath, key, `{"url":"https://example.org","events":["nope"]}`)
	require.Contains(t, string(unknown.body), "review.submitted", "the valid ones are listed")
	var n int
	require.NoError(t, a.pool.QueryRow(t.Context(), "SELECT count(*) FROM webhooks").Scan(&n))
	require.Equal(t, 1, n)
}

func TestInvalidEventsAreRefusedAtTheDoor(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	for _, c := range []struct{ body, field string }{
		{`{"data":{}}`, "event"},
		{`{"event":"nope","data":{}}`, "event"},
		{`{"event":"test","data":{}}`, "event"},
		{`{"event":5,"data":{}}`, "event"},
		{`{"event":"post.created"}`, "data"},
		{`{"event":"post.created","data":[]}`, "data"},
		{`{"event":"post.created","data":null}`, "data"},
		{`{"event":"post.created","data":"{}"}`, "data"},
		{`{"event":"mention","data":{}}`, "botIds"},
		{`{"event":"mention","data":{},"botIds":[]}`, "botIds"},
		{`{"event":"mention","data":{},"botIds":["a b"]}`, "botIds[0]"},
		{`{"event":"post.created","data":{},"id":"a.b"}`, "id"},
		{`{"event":"post.created","data":{},"id":"` + strings.Repeat("x", 129) + `"}`, "id"},
		{`{"event":"post.created","data":{},"timestamp":"yesterday"}`, "timestamp"},
		{`{"event":"post.created","data":{},"timestamp":0}`, "timestamp"},
	} {
		got := a.do("POST", "/api/internal/v1/events", serviceToken, c.body)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, "%s: %s", c.body, got.body)
		require.Equal(t, []string{c.field}, got.fields(t), c.body)
	}
}
