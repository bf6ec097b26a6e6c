package webhook_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestParseObject(t *testing.T) {
	members, err := webhook.ParseObject([]byte(`{"url":"x","secret":null}`), "url", "events", "secret")
	require.NoError(t, err)
	require.Equal(t, map[string]json.RawMessage{"url": json.RawMessage(`"x"`), "secret": json.RawMessage(`null`)}, members)

	_, err = webhook.ParseObject([]byte(`{"url":"x"}`))
	require.Error(t, err)
	members, err = webhook.ParseObject([]byte(`{}`))
	require.NoError(t, err)
	require.Empty(t, members)

	require.EqualError(t, func() error { _, err := webhook.ParseObject([]byte(`{"a":}`), "a"); return err }(), "malformed JSON: not valid JSON at byte 5")
}

func TestIndented(t *testing.T) {
	for raw, want := range map[string]string{
		`{"a":[1.50,{}],"b":"[{,:\\\"]"}`: "{\n  \"a\": [\n    1.50,\n    {}\n  ],\n  \"b\": \"[{,:\\\\\\\"]\"\n}",
		`[]`:                              "[]",
	} {
		got, ok := webhook.Indented([]byte(raw))
		require.True(t, ok)
		require.Equal(t, want, string(got))
	}
	_, ok := webhook.Indented([]byte("{"))
	require.False(t, ok)
	for depth, fits := range map[int]bool{700: true, 2048: false} { // their lines have twice the square of the depth
		got, ok := webhook.Indented([]byte(strings.Repeat("[", depth) + strings.Repeat("]", depth)))
		require.Equal(t, fits, ok, depth)
		require.LessOrEqual(t, len(got), 1<<20)
	}
	_, ok = webhook.Indented([]byte("[[[[[[[[" + strings.Repeat("1,", 100_000) + "1]]]]]]]]"))
	require.False(t, ok, "wide at the eighth level")
}
