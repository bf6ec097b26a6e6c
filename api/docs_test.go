package api_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func loadContract(t *testing.T) *openapi3.T {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	require.NoError(t, err)
	require.NoError(t, document.Validate(t.Context()), "the examples are valid too")
	return document
}

// TestTheContractsWebhooksAreTheCatalogs: what the document says of an event type is what the catalog says.
func TestTheContractsWebhooksAreTheCatalogs(t *testing.T) {
	t.Parallel()
	document := loadContract(t)
	require.Len(t, document.Webhooks, len(webhook.Catalog()))
	sent := webhook.Headers(webhook.Delivery{Type: webhook.Test, Secrets: []string{"s"}})
	for _, event := range webhook.Catalog() {
		item := document.Webhooks[string(event.Type)]
		require.NotNil(t, item, event.Type)
		require.Equal(t, event.Description, item.Post.Summary)
		require.Equal(t, map[webhook.Audience]string{
			webhook.Broadcast: "Goes to every subscribed webhook, or to those of the bots that the event names.",
			webhook.Targeted:  "Goes to the subscribed webhooks of the bots that it concerns.",
			webhook.Direct:    "Goes to one endpoint, which did not subscribe to it.",
		}[event.Audience], item.Post.Description)
		for _, p := range item.Post.Parameters {
			require.Contains(t, sent, http.CanonicalHeaderKey(p.Value.Name))
		}
		require.Len(t, item.Post.Parameters, len(sent)-2, "all but Content-Type and User-Agent")
		body := item.Post.RequestBody.Value.Content["application/json"]
		require.Equal(t, string(event.Type), body.Schema.Value.Properties["event"].Value.Const)
		data := body.Schema.Value.Properties["data"].Value.Properties
		require.Len(t, data, len(event.Fields), event.Type)
		for _, f := range event.Fields {
			require.NotNil(t, data[f.Name], "%s %s", event.Type, f.Name)
			require.Equal(t, f.Description, data[f.Name].Value.Description)
		}
		example := body.Example.(map[string]any)
		require.Equal(t, string(event.Type), example["event"])
		shown, err := json.Marshal(example["data"])
		require.NoError(t, err)
		require.JSONEq(t, string(event.ExampleData()), string(shown))
	}
}

func TestEveryCallHasExamples(t *testing.T) {
	t.Parallel()
	document := loadContract(t)
	shown := func(m *openapi3.MediaType) bool { return m.Example != nil || len(m.Examples) > 0 }
	for path, item := range document.Paths.Map() {
		for method, op := range item.Operations() {
			if op.RequestBody != nil {
				for kind, m := range op.RequestBody.Value.Content {
					require.True(t, shown(m), "request of %s %s as %s", method, path, kind)
				}
			}
			for status, response := range op.Responses.Map() {
				for kind, m := range response.Value.Content {
					require.True(t, shown(m), "%s of %s %s as %s", status, method, path, kind)
				}
			}
		}
	}
}

// TestTheReferenceLoadsNothing: not from outside, nor from here. Its policy lets nothing in but its own style.
func TestTheReferenceLoadsNothing(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	got := a.do("GET", "/docs", "", nil)
	require.Equal(t, http.StatusOK, got.status)
	require.Equal(t, "text/html; charset=utf-8", got.header.Get("Content-Type"))
	require.Regexp(t, `^default-src 'none'; style-src 'sha256-[A-Za-z0-9+/=]{44}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'$`, got.header.Get("Content-Security-Policy"))
	page := string(got.body)
	require.NotRegexp(t, `(?i)<(script|link|img|iframe|object|embed|form|base|audio|video|svg)\b|\bsrc=|\bon[a-z]+=|@import|url\(`, page)
	for _, link := range regexp.MustCompile(`(?i)\bhref="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		require.True(t, strings.HasPrefix(link[1], "#") || link[1] == "openapi.json", link[1])
	}
	document := loadContract(t)
	for path, item := range document.Paths.Map() {
		for _, op := range item.Operations() {
			require.Contains(t, page, `id="`+op.OperationID+`"`)
			require.Contains(t, page, path)
		}
	}
	for name, item := range document.Webhooks {
		require.Contains(t, page, `id="`+item.Post.OperationID+`"`)
		require.Contains(t, page, name)
	}

	get := func(accept string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.url+"/docs", http.NoBody)
		require.NoError(t, err)
		req.Header.Set("Accept-Encoding", accept)
		resp, err := http.DefaultTransport.RoundTrip(req)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, resp.Body.Close()) })
		return resp
	}
	for _, accept := range []string{"gzip", "br, GZIP;q=0.5", "identity;q=1, gzip; q=1"} {
		resp := get(accept)
		require.Equal(t, "gzip", resp.Header.Get("Content-Encoding"), accept)
		unpacked, err := gzip.NewReader(resp.Body)
		require.NoError(t, err)
		whole, err := io.ReadAll(unpacked)
		require.NoError(t, err)
		require.Equal(t, page, string(whole))
	}
	for _, accept := range []string{"gzip;q=0", "br, gzip; q=0.0", "identity", "x-not-gzip", "gzip;q=much"} {
		require.Empty(t, get(accept).Header.Get("Content-Encoding"), accept)
	}
}
