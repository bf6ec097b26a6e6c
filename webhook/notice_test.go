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
	at := time.Date(2025, 3, 20, 10, 30, 0, 0, time.UTC)
	about := webhook.Notice{
		WebhookID: uuid.MustParse("0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71"), Generation: 3, BotID: "bot-lemma", Host: "bots.example.org", At: at,
		LastError: "HTTP 503", EventID: "0195b2ef-91c4-7a52-b0d3-6d0f5a7e8c19",
	}
	disabled, failing, recovered := about, about, about
	disabled.Kind, disabled.FailureCount = webhook.NoticeDisabled, 10
	failing.Kind, failing.FailureCount, failing.Failed = webhook.NoticeFailing, 7, 7
	failing.Reason, failing.Since = webhook.FailingInARow, time.Date(2025, 3, 19, 10, 20, 0, 0, time.UTC)
	recovered.Kind, recovered.Since, recovered.Delivered, recovered.Failed = webhook.NoticeRecovered, at, 12, 1
	ids := map[string]bool{}
	for kind, n := range map[webhook.EventType]webhook.Notice{webhook.Disabled: disabled, webhook.Failing: failing, webhook.Recovered: recovered} {
		spec, ok := webhook.Spec(kind)
		require.True(t, ok)
		require.True(t, n.Kind.Valid())
		require.Equal(t, string(spec.ExampleData()), string(n.Event().Data))
		require.Equal(t, `{"event":"`+string(kind)+`","timestamp":"2025-03-20T10:30:00.000Z","data":`+string(spec.ExampleData())+`}`, string(n.Event().Body()))
		require.True(t, webhook.ValidID(n.NoticeID()))
		require.Equal(t, n.NoticeID(), n.Event().ID)
		ids[n.NoticeID()] = true

		n.LastError = `tls: "<bad>"`
		require.True(t, json.Valid(n.Event().Body()))
		n.Generation++
		ids[n.NoticeID()] = true
	}
	require.Len(t, ids, 6, "each has an id of its own")
	require.False(t, webhook.NoticeKind("").Valid())
}
