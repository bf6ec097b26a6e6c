package api_test

import (
	"compress/gzip"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
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

// TestTheReferenceLoadsNothing: but its own style. It shows every call and event.
func TestTheReferenceLoadsNothing(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	page := a.page("/docs")
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

// page gets a page of the documentation and sees that it is complete and loads nothing but its style and images.
func (a *testAPI) page(path string) string {
	a.t.Helper()
	got := a.do("GET", path, "", nil)
	require.Equal(a.t, http.StatusOK, got.status, path)
	require.Equal(a.t, "text/html; charset=utf-8", got.header.Get("Content-Type"))
	require.Equal(a.t, "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", got.header.Get("Content-Security-Policy"))
	page := string(got.body)
	require.NotRegexp(a.t, `(?i)<(script|style|iframe|object|embed|form|base|audio|video|svg)\b|\bsrc="?(https?:|//)|\bon[a-z]+=|\bstyle=`, page, path)
	require.NotContains(a.t, page, "<!-- ", path)
	require.NotContains(a.t, regexp.MustCompile(`(?s)<pre.*?</pre>`).ReplaceAllString(page, ""), "`", "%s: Markdown that was not read", path)
	return page
}

// TestTheDocumentationsLinksLeadSomewhere follows each link of the reference, the guides and what they lead to, as a browser
// resolves it, also behind a proxy that puts a prefix before everything.
func TestTheDocumentationsLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	pages, todo := map[string]string{}, []string{"/docs"}
	var fragments []*url.URL
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		if pages[path] != "" {
			continue
		}
		pages[path] = a.page(path)
		here, err := url.Parse("https://example.org/below" + path)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`(?i)\b(?:href|src)="([^"]*)"`).FindAllStringSubmatch(pages[path], -1) {
			to, err := here.Parse(html.UnescapeString(m[1]))
			require.NoError(t, err, m[1])
			if to.Host != here.Host {
				require.Equal(t, "https", to.Scheme, m[1])
				continue
			}
			below, found := strings.CutPrefix(to.Path, "/below")
			require.True(t, found, "%s leaves the prefix: %s", path, m[1])
			switch {
			case strings.HasPrefix(below, "/docs") && filepath.Ext(below) == "":
				todo = append(todo, below)
				fragments = append(fragments, to)
			case below != "/":
				require.Equal(t, http.StatusOK, a.do("GET", below, "", nil).status, "%s: %s", path, m[1])
			}
		}
	}
	for _, to := range fragments {
		if to.Fragment != "" {
			require.Contains(t, pages[strings.TrimPrefix(to.Path, "/below")], `id="`+to.Fragment+`"`, to)
		}
	}
	for _, guide := range []string{"quick-start", "verifying-signatures", "verified-endpoints", "events", "failures", "history", "polling", "cli"} {
		require.Contains(t, pages, "/docs/"+guide)
	}
	require.Equal(t, http.StatusNotFound, a.do("GET", "/docs/operations", "", nil).status, "for operators")
	require.Equal(t, http.StatusNotFound, a.do("GET", "/docs/../README", "", nil).status)
}

// TestTheReferenceSaysWhatIsAllowed: of each kind of limit, one that the contract has.
func TestTheReferenceSaysWhatIsAllowed(t *testing.T) {
	t.Parallel()
	page := newAPI(t, nil, nil).page("/docs")
	section := func(id string) string {
		_, after, found := strings.Cut(page, `<section class="card" id="`+id+`">`)
		require.True(t, found, id)
		section, _, _ := strings.Cut(after, "</section>")
		return regexp.MustCompile(`\s+`).ReplaceAllString(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(section, " "), " ")
	}
	for id, says := range map[string][]string{
		"createWebhook":     {"url required", "events required", "secret optional", "at most 2048 characters", "array of string at least 1 item; each one of thread.created , post.created", "1 to 256 characters"},
		"pollEvents":        {"limit optional query integer 1 to 500; default 100", "Default: the oldest event that is kept."},
		"getEvent":          {"outcome optional query string one of delivered , failed , waiting"},
		"listWebhooksOfAny": {"state optional query string one of active , queued , failing , disabled , suspended"},
		"emitEvents":        {"events required array of object 1 to 100 items", "events[].event required", "events[].id optional string matches"},
		"onPostCreated":     {"event required string always post.created", "data.postId"},
	} {
		for _, text := range says {
			require.Contains(t, section(id), text, id)
		}
	}
}

// TestDocs_StyleIsCachedForGood: its name changes with its content.
func TestDocs_StyleIsCachedForGood(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	m := regexp.MustCompile(`href="(docs/look-[A-Za-z0-9_-]{12}\.css)"`).FindStringSubmatch(a.page("/docs"))
	require.NotNil(t, m)
	got, err := http.Get(a.url + "/" + m[1])
	require.NoError(t, err)
	require.NoError(t, got.Body.Close())
	require.Equal(t, "public, max-age=31536000, immutable", got.Header.Get("Cache-Control"))
	require.Equal(t, "text/css; charset=utf-8", got.Header.Get("Content-Type"))
}
