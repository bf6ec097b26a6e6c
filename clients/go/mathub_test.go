package mathub_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/oapi-codegen/nullable"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
)

// exchange is a request that the API got.
type exchange struct{ method, target, authorization, contentType, body string }

// answering starts an API that answers with status and body, and returns its URL and the last request.
func answering(t *testing.T, status int, header map[string]string, body string) (url string, last *exchange) {
	t.Helper()
	last = &exchange{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body) // what is missing fails the test
		*last = exchange{r.Method, r.RequestURI, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), string(raw)}
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL, last
}

func TestClient_SendsWhatIsSet(t *testing.T) {
	t.Parallel()
	url, last := answering(t, http.StatusOK, nil, `[]`)
	client, err := mathub.New(url+"/prefix/", "bot_1\n") // as a file has it
	require.NoError(t, err)
	service, err := mathub.NewService(url, "token")
	require.NoError(t, err)
	ctx, no := t.Context(), false
	var failed error
	for name, c := range map[string]struct {
		call func()
		want exchange
	}{
		"no parameters": {func() { _, failed = client.ListWebhooks(ctx, nil) }, exchange{"GET", "/prefix/api/bot/v1/webhooks", "Bearer bot_1", "", ""}},
		"false is a value": {
			func() {
				_, failed = client.ListDeliveries(ctx, "w", &mathub.ListDeliveriesParams{Success: &no, Limit: 5})
			},
			exchange{"GET", "/prefix/api/bot/v1/webhooks/w/deliveries?limit=5&success=false", "Bearer bot_1", "", ""},
		},
		"an id is no path": {func() { failed = client.DeleteWebhook(ctx, "a/b?c") }, exchange{"DELETE", "/prefix/api/bot/v1/webhooks/a%2Fb%3Fc", "Bearer bot_1", "", ""}},
		"no body":          {func() { _, failed = client.TestWebhook(ctx, "w", nil) }, exchange{"POST", "/prefix/api/bot/v1/webhooks/w/test", "Bearer bot_1", "", ""}},
		"a body that may be left out": {
			func() { _, failed = client.RecoverWebhook(ctx, "w", nil) },
			exchange{"POST", "/prefix/api/bot/v1/webhooks/w/recover", "Bearer bot_1", "", ""},
		},
		"null is a value": {
			func() {
				_, failed = client.UpdateWebhook(ctx, "w", mathub.WebhookChange{IsActive: &no, Secret: nullable.NewNullNullable[string]()})
			},
			exchange{"PATCH", "/prefix/api/bot/v1/webhooks/w", "Bearer bot_1", "application/json", `{"isActive":false,"secret":null}`},
		},
		"data to the digit": {
			func() {
				_, failed = service.EmitEvent(ctx, mathub.Event{Type: mathub.PostCreated, Data: json.RawMessage(`{"n":1.50,"text":"<&> ` + "\u2028" + `"}`)})
			},
			exchange{"POST", "/api/internal/v1/events", "Bearer token", "application/json", `{"event":"post.created","data":{"n":1.50,"text":"<&> ` + "\u2028" + `"}}`},
		},
	} {
		c.call()
		if failed != nil { // the answer is a list, which some calls do not have
			assert.ErrorContains(t, failed, "cannot unmarshal array", name)
		}
		last.body = strings.TrimSpace(last.body)
		assert.Equal(t, c.want, *last, name)
	}
}

func TestClient_ReadsWhatIsAnswered(t *testing.T) {
	t.Parallel()
	const body = `{"events":[{"id":"e","event":"new.type","timestamp":"2025-03-20T10:30:00.100Z","data":{"n":1.50}}],"cursor":"7","hasMore":true,"new":1}`
	url, _ := answering(t, http.StatusOK, map[string]string{"ETag": `"1"`}, body)
	client, err := mathub.New(url, "bot_1")
	require.NoError(t, err)
	page, err := client.PollEvents(t.Context(), nil)
	require.NoError(t, err)
	require.Equal(t, mathub.EventPage{Cursor: "7", HasMore: true, Events: []mathub.PolledEvent{
		{ID: "e", Type: "new.type", Timestamp: time.Date(2025, 3, 20, 10, 30, 0, 100e6, time.UTC), Data: json.RawMessage(`{"n":1.50}`)},
	}}, page.Value)
	require.Equal(t, body, string(page.Body))
	require.Equal(t, `"1"`, page.Header.Get("ETag"))
}

func TestClient_ARefusalIsAProblem(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		header map[string]string
		body   string
		want   mathub.Problem
		text   string
	}{
		"fields": {
			422,
			map[string]string{"Content-Type": "application/problem+json; charset=utf-8"},
			`{"type":"about:blank","title":"T","status":422,"detail":"Wrong.","errors":[{"field":"url","message":"must be https"}]}`,
			mathub.Problem{Type: "about:blank", Title: "T", Status: 422, Detail: "Wrong.", Errors: []mathub.FieldError{{Field: "url", Message: "must be https"}}},
			"422 Unprocessable Entity: Wrong.\n  url must be https",
		},
		"a pause": {
			429,
			map[string]string{"Content-Type": "application/problem+json", "Retry-After": "7"},
			`{"status":429,"detail":"Slower."}`,
			mathub.Problem{Status: 429, Detail: "Slower.", RetryAfter: 7 * time.Second},
			"429 Too Many Requests: Slower.",
		},
		"not the API's": {
			502,
			map[string]string{"Content-Type": "text/html"},
			`<h1>Bad Gateway</h1>`,
			mathub.Problem{Status: 502, Detail: "the answer is not from the API."},
			"502 Bad Gateway: the answer is not from the API.",
		},
	} {
		url, _ := answering(t, c.status, c.header, c.body)
		client, err := mathub.New(url, "bot_secret")
		require.NoError(t, err)
		_, err = client.GetWebhook(t.Context(), "w")
		var problem *mathub.Problem
		require.ErrorAs(t, err, &problem, name)
		assert.Equal(t, c.want, *problem, name)
		assert.Equal(t, c.text, err.Error(), name)
	}
}

// TestClient_NoAnswerOfTheAPI: the error says where the API should be, without a password, and no key.
func TestClient_NoAnswerOfTheAPI(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	page, _ := answering(t, http.StatusOK, nil, "<html>")
	for url, want := range map[string]string{closed.URL: "does not answer", page: "is not the API"} {
		client, err := mathub.New(strings.Replace(url, "http://", "http://user:password@", 1), "bot_secret")
		require.NoError(t, err)
		_, err = client.GetWebhook(t.Context(), "w")
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "http://user:xxxxx@127.0.0.1")
		require.NotContains(t, err.Error(), "password")
		require.NotContains(t, err.Error(), "bot_secret")
	}
}

// TestClient_FollowsNoRedirect: a PATCH or DELETE would become a GET, whose answer looks like success.
func TestClient_FollowsNoRedirect(t *testing.T) {
	t.Parallel()
	elsewhere, last := answering(t, http.StatusOK, nil, `{"id":"w","isActive":true}`)
	url, _ := answering(t, http.StatusMovedPermanently, map[string]string{"Location": elsewhere + "/moved?token=t"}, "")
	for _, options := range [][]mathub.Option{nil, {mathub.WithHTTPClient(http.DefaultClient)}} {
		client, err := mathub.New(url, "bot_1", options...)
		require.NoError(t, err)
		no := false
		_, err = client.UpdateWebhook(t.Context(), "w", mathub.WebhookChange{IsActive: &no})
		require.ErrorContains(t, err, "301 Moved Permanently: the server redirects to "+elsewhere+", which is not followed.")
		require.ErrorContains(t, client.DeleteWebhook(t.Context(), "w"), "is not followed")
		_, err = client.GetWebhook(t.Context(), "w")
		require.ErrorContains(t, err, "is not followed")
	}
	require.Empty(t, *last, "nobody has asked there")
	require.Nil(t, http.DefaultClient.CheckRedirect, "the caller's client is the caller's")
}

func TestNew_RefusesWhatNoAPICanBeAt(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "localhost:8080", "ftp://example.org", "http://", "http://a b"} {
		_, err := mathub.New(url, "bot_1")
		require.Error(t, err, url)
		_, err = mathub.NewService(url, "token")
		require.Error(t, err, url)
	}
	_, err := mathub.New("http://127.0.0.1:8080", "")
	require.Error(t, err)
	_, err = mathub.New("http://127.0.0.1:8080", "bot_k\ny")
	require.ErrorContains(t, err, "line break")
	require.NotContains(t, err.Error(), "bot_k")
}

func TestClient_FollowsPages(t *testing.T) {
	t.Parallel()
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.RequestURI)
		switch r.URL.Query().Get("before") {
		case "":
			w.Header().Add("Link", `</style.css>; rel="preload"`) // a proxy's
			w.Header().Add("Link", `</api/bot/v1/webhooks/w/deliveries?eventType=mention&before=b>; rel="next"`)
			_, _ = io.WriteString(w, `[{"id":"a"},{"id":"b"}]`)
		case "b": // a page may be empty and have a next one
			w.Header().Set("Link", `</api/bot/v1/webhooks/w/deliveries?eventType=mention&before=c>; rel="next"`)
			_, _ = io.WriteString(w, `[]`)
		default:
			_, _ = io.WriteString(w, `[{"id":"d"}]`)
		}
	}))
	t.Cleanup(server.Close)
	client, err := mathub.New(server.URL, "bot_1")
	require.NoError(t, err)
	var ids []string
	for delivery, err := range client.Deliveries(t.Context(), "w", mathub.ListDeliveriesParams{EventType: "mention"}) {
		require.NoError(t, err)
		ids = append(ids, delivery.ID)
	}
	require.Equal(t, []string{"a", "b", "d"}, ids)
	require.Equal(t, []string{
		"/api/bot/v1/webhooks/w/deliveries?eventType=mention",
		"/api/bot/v1/webhooks/w/deliveries?before=b&eventType=mention",
		"/api/bot/v1/webhooks/w/deliveries?before=c&eventType=mention",
	}, asked)

	url, _ := answering(t, http.StatusInternalServerError, nil, "")
	client, err = mathub.New(url, "bot_1")
	require.NoError(t, err)
	var problem *mathub.Problem
	seen := 0
	for _, err := range client.Webhooks(t.Context()) {
		seen++
		require.True(t, errors.As(err, &problem))
	}
	require.Equal(t, 1, seen)
}
