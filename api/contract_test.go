package api_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// TestWhatClientsReadIsOpen: a client that was generated before a field, an event type or a longer list came into answers
// reads them all the same.
func TestWhatClientsReadIsOpen(t *testing.T) {
	t.Parallel()
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	require.NoError(t, err)
	seen := map[*openapi3.Schema]bool{}
	for path, item := range document.Paths.Map() {
		for method, operation := range item.Operations() {
			for status, response := range operation.Responses.Map() {
				for _, content := range response.Value.Content {
					requireOpen(t, method+" "+path+" "+status, content.Schema, seen)
				}
			}
		}
	}
	require.Greater(t, len(seen), 50, "no answers were looked at")
}

func requireOpen(t *testing.T, at string, ref *openapi3.SchemaRef, seen map[*openapi3.Schema]bool) {
	t.Helper()
	if ref == nil || seen[ref.Value] {
		return
	}
	s := ref.Value
	seen[s] = true
	closed := s.AdditionalProperties.Has != nil && !*s.AdditionalProperties.Has
	require.False(t, closed, "%s: other fields would break clients", at)
	require.Empty(t, s.Enum, "%s: other values would break clients", at)
	require.Nil(t, s.Const, at)
	require.Empty(t, s.Pattern, at)
	require.Nil(t, s.MaxItems, at)
	require.Nil(t, s.MaxLength, at)
	require.Nil(t, s.Max, at)
	if s.Type.Is("object") && len(s.Properties) == 0 {
		require.True(t, s.AdditionalProperties.Has != nil || s.AdditionalProperties.Schema != nil, "%s: generators make a type without members of it", at)
	}
	for name, property := range s.Properties {
		requireOpen(t, at+" "+name, property, seen)
	}
	requireOpen(t, at+"[]", s.Items, seen)
	for _, one := range append(append(s.OneOf, s.AnyOf...), s.AllOf...) {
		requireOpen(t, at, one, seen)
	}
}

// TestTheDocumentIsForEveryGenerator: none of it is of our own programs.
func TestTheDocumentIsForEveryGenerator(t *testing.T) {
	t.Parallel()
	served := newAPI(t, nil, nil).do("GET", "/openapi.json", "", nil)
	require.NotContains(t, string(served.body), `"x-`)
	var document map[string]any
	served.into(t, &document)
	for _, schema := range []string{"Event", "Delivery", "PolledEvent", "EventDetail"} {
		properties := at(t, document, "components", "schemas", schema, "properties")
		for _, name := range []string{"data", "payload"} {
			if property, has := properties[name].(map[string]any); has {
				require.Equal(t, true, property["additionalProperties"], "%s.%s", schema, name)
			}
		}
	}
}

func at(t *testing.T, in map[string]any, names ...string) map[string]any {
	t.Helper()
	for _, name := range names {
		inner, is := in[name].(map[string]any)
		require.True(t, is, name)
		in = inner
	}
	return in
}

func TestTheContractsEventTypesAreTheCatalogs(t *testing.T) {
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	require.NoError(t, err)
	var named []string
	for _, v := range document.Components.Schemas["EventType"].Value.Enum {
		named = append(named, fmt.Sprint(v))
	}
	var want []string
	for _, e := range webhook.Subscribable() {
		want = append(want, string(e))
	}
	require.Equal(t, want, named)
}

func TestEveryRouteIsInTheContractAndTheOtherWayRound(t *testing.T) {
	raw, err := os.ReadFile("server_gen.go")
	require.NoError(t, err)
	document, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	require.NoError(t, err)
	var paths []string
	for path, item := range document.Paths.Map() {
		for method := range item.Operations() {
			route := method + " " + strings.NewReplacer("{", ":", "}", "").Replace(path)
			paths = append(paths, route)
			require.Contains(t, string(raw), fmt.Sprintf("router.%s(options.BaseURL+%q", method, strings.TrimPrefix(route, method+" ")))
		}
	}
	require.Equal(t, len(paths), strings.Count(string(raw), "(options.BaseURL+\""))
	served := newAPI(t, nil, nil).do("GET", "/openapi.json", "", nil)
	require.Equal(t, http.StatusOK, served.status)
	_, err = openapi3.NewLoader().LoadFromData(served.body)
	require.NoError(t, err)
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	for path, status := range map[string]int{"/healthz": http.StatusOK, "/openapi.json": http.StatusOK, "/nowhere": http.StatusNotFound} {
		resp, err := http.Head(a.url + path)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, status, resp.StatusCode, path)
		require.Positive(t, resp.ContentLength, path)
	}
}

func TestUnknownRoutesAndMethods(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	require.Equal(t, http.StatusNotFound, a.do("GET", "/nothing", "", nil).status)
	require.Equal(t, http.StatusNotFound, a.do("GET", "/api/bot/v1/nothing", key, nil).status)
	require.Equal(t, http.StatusUnauthorized, a.do("GET", "/api/bot/v1/nothing", "", nil).status)
	got := a.do("PUT", webhooksPath, key, nil)
	require.Equal(t, http.StatusMethodNotAllowed, got.status)
	require.Contains(t, got.header.Get("Allow"), "POST")
}
