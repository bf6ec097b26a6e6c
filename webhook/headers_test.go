package webhook_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestHeaders(t *testing.T) {
	body := []byte(`{"event":"test","timestamp":"2025-03-20T10:30:00.000Z","data":{}}`)
	d := webhook.Delivery{
		ID: uuid.MustParse("0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71"), EventID: vectorID, Type: webhook.PostCreated,
		At: time.Unix(vectorTime, 0).In(time.FixedZone("", 3600)), Body: body, Version: "1.2.3",
	}
	unsigned := http.Header{
		"Content-Type":      {"application/json"},
		"User-Agent":        {"Mathub-Webhooks/1.2.3"},
		"X-Mathub-Event":    {"post.created"},
		"X-Mathub-Delivery": {"0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71"},
		"Webhook-Id":        {vectorID},
		"Webhook-Timestamp": {"1614265330"},
	}
	require.Equal(t, unsigned, webhook.Headers(d))

	d.Secrets = []string{"", ""}
	require.Equal(t, unsigned, webhook.Headers(d), "empty secrets sign nothing")

	d.Secrets = []string{"my-secret-key-1234"}
	signed := unsigned.Clone()
	signed["X-Mathub-Signature"] = []string{"02b075c9e940c5ff93e8f5d8639b54cdc2255d88078d0b3ec11c260f3f5d33f4"}
	signed["Webhook-Signature"] = []string{"v1,fnQrjrqlY+oyPy95eJvHxVqLXS4PDvpL23c9khmmMuw="}
	require.Equal(t, signed, webhook.Headers(d))

	d.Secrets = []string{"my-secret-key-1234", "", vectorSecret}
	signed["Webhook-Signature"][0] += " v1,xwiqlYq55T9+CyWyjZlFlvREjZeMDfX92xmXTtUIsiw="
	require.Equal(t, signed, webhook.Headers(d), "in a rotation's overlap")

	for name := range signed {
		require.Equal(t, http.CanonicalHeaderKey(name), name, "Get finds it")
	}
}

// A header's values share a backing array; adding to one must not write into the next.
func TestHeadersAreIndependent(t *testing.T) {
	h := webhook.Headers(webhook.Delivery{Type: webhook.Test, EventID: "e", Secrets: []string{"s"}})
	h.Add("Content-Type", "x")
	require.Equal(t, []string{"Mathub-Webhooks/"}, h["User-Agent"])
}

func BenchmarkHeaders(b *testing.B) {
	d := webhook.Delivery{
		ID: uuid.New(), EventID: webhook.NewID(), Type: webhook.PostCreated, At: time.Now(),
		Body: make([]byte, 512), Version: "1.2.3", Secrets: []string{vectorSecret},
	}
	b.ReportAllocs()
	for b.Loop() {
		webhook.Headers(d)
	}
}
