package eventschema_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/eventschema"
	"github.com/mathub/webhooks/webhook"
)

func TestChecker_Faults(t *testing.T) {
	t.Parallel()
	c, err := eventschema.NewChecker()
	require.NoError(t, err)
	for _, spec := range webhook.Catalog() {
		require.Empty(t, c.Faults(webhook.Event{Type: spec.Type, Data: spec.ExampleData()}), spec.Type)
		require.Empty(t, c.Faults(webhook.Event{Type: spec.Type, Data: json.RawMessage(`{}`)}), "no field is required")
		require.Empty(t, c.Faults(webhook.Event{Type: spec.Type, Data: json.RawMessage(`{"more":[1.5e400]}`)}), "others may be there")
	}
	require.Equal(t, []webhook.FieldError{
		{Field: "data.body", Message: "does not fit its schema: got null, want string"},
		{Field: "data.postId", Message: "does not fit its schema: got number, want string"},
	}, c.Faults(webhook.Event{Type: webhook.PostCreated, Data: json.RawMessage(`{"postId":1,"body":null,"threadId":"t"}`)}))
	require.Equal(t, []webhook.FieldError{{Field: "data.failureCount", Message: "does not fit its schema: got number, want integer"}},
		c.Faults(webhook.Event{Type: webhook.Disabled, Data: json.RawMessage(`{"failureCount":1.5}`)}))
}

func BenchmarkChecker_Faults(b *testing.B) {
	c, err := eventschema.NewChecker()
	require.NoError(b, err)
	spec, _ := webhook.Spec(webhook.PostCreated)
	e := webhook.Event{Type: webhook.PostCreated, Data: spec.ExampleData()}
	b.ReportAllocs()
	for b.Loop() {
		c.Faults(e)
	}
}
