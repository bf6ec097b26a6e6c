package webhook_test

import (
	"encoding/json"
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
