package api_test

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/internal/eventschema"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

// TestSchemasAreServed: that of each type, without a key, is one that a validator takes, and its example fits it.
func TestSchemasAreServed(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	for _, spec := range webhook.Catalog() {
		got := a.do("GET", "/schemas/"+string(spec.Type), "", nil)
		require.Equal(t, http.StatusOK, got.status)
		require.Equal(t, "application/schema+json", got.header.Get("Content-Type"))
		var document, example any
		require.NoError(t, json.Unmarshal(got.body, &document))
		require.Equal(t, "https://json-schema.org/draft/2020-12/schema", document.(map[string]any)["$schema"])
		compiler := jsonschema.NewCompiler()
		require.NoError(t, compiler.AddResource("mem:schema", document))
		schema, err := compiler.Compile("mem:schema")
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(spec.ExampleData(), &example))
		require.NoError(t, schema.Validate(example))
	}
	require.Equal(t, http.StatusNotFound, a.do("GET", "/schemas/nothing", "", nil).status)
}

// TestDataIsHeldAgainstItsSchema as the operator says: not, with what does not fit in the receipt, or refused.
func TestDataIsHeldAgainstItsSchema(t *testing.T) {
	t.Parallel()
	checker, err := eventschema.NewChecker()
	require.NoError(t, err)
	const unfit, fit = `{"event":"post.created","data":{"postId":1,"more":1}}`, `{"event":"post.created","data":{"postId":"p"}}`
	fault := webhook.FieldError{Field: "data.postId", Message: "does not fit its schema: got number, want string"}
	type receipt struct{ SchemaFaults []webhook.FieldError }
	one, batch := eventsPath, eventsPath+"/batch"
	for name, mode := range map[string]func(*api.Config){
		"off": nil, "warn": func(c *api.Config) { c.Schemas = checker }, "enforce": func(c *api.Config) { c.Schemas, c.EnforceSchemas = checker, true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, temporaltest.New(t), mode)
			var r receipt
			a.do("POST", one, serviceToken, fit).into(t, &r)
			require.Empty(t, r.SchemaFaults)
			got, both := a.do("POST", one, serviceToken, unfit), a.do("POST", batch, serviceToken, `{"events":[`+fit+`,`+unfit+`]}`)
			if name == "enforce" {
				require.Equal(t, []string{"data.postId"}, got.fields(t))
				require.Equal(t, []string{"events[1].data.postId"}, both.fields(t), "all or none")
				return
			}
			require.Equal(t, http.StatusAccepted, got.status, "%s", got.body)
			require.Equal(t, http.StatusAccepted, both.status, "%s", both.body)
			var list []receipt
			got.into(t, &r)
			both.into(t, &list)
			var want []webhook.FieldError
			if name == "warn" {
				want = []webhook.FieldError{fault}
			}
			require.Equal(t, []receipt{{want}, {nil}, {want}}, append([]receipt{r}, list...))
		})
	}
}
