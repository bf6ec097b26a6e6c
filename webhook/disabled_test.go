package webhook_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestANoticeSaysWhatTheCatalogSays(t *testing.T) {
	d := webhook.Disabling{
		WebhookID: uuid.MustParse("0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71"), Generation: 3, BotID: "bot-lemma", Host: "bots.example.org",
		FailureCount: 10, DisabledAt: time.Date(2025, 3, 20, 10, 30, 0, 0, time.UTC), LastError: "HTTP 503", EventID: "0195b2ef-91c4-7a52-b0d3-6d0f5a7e8c19",
	}
	spec, ok := webhook.Spec(webhook.Disabled)
	require.True(t, ok)
	require.Equal(t, string(spec.ExampleData()), string(d.Event().Data))
	require.Equal(t, `{"event":"webhook.disabled","timestamp":"2025-03-20T10:30:00.000Z","data":`+string(spec.ExampleData())+`}`, string(d.Event().Body()))
	require.True(t, webhook.ValidID(d.NoticeID()))
	require.Equal(t, d.NoticeID(), d.Event().ID)

	d.LastError = `tls: "<bad>"`
	require.True(t, json.Valid(d.Event().Body()))
	again := d
	again.Generation++
	require.NotEqual(t, d.NoticeID(), again.NoticeID())
}
