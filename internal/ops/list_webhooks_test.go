package ops

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db/dbtest"
	"github.com/mathub/webhooks/internal/problem"
)

// trouble is a database with a webhook of each kind.
func trouble(t *testing.T) *bed {
	t.Helper()
	b := newBed(t)
	for _, id := range []string{"a", "b", "s"} {
		b.bot(id)
	}
	b.hook(1, "a", "one.example", "")
	b.queue(b.hook(2, "a", "two.example:8443", failures(3, "timeout")), 3, 600)
	b.queue(b.hook(3, "b", "two.example", failures(7, "dns")), 5, 60)
	b.hook(4, "b", "one.example", fmt.Sprintf(disabled, 30, "failures")+", failure_count = 10, failure_class = 'dns'")
	b.hook(5, "b", "one.example", fmt.Sprintf(disabled, 2, "owner"))
	b.hook(6, "a", "one.example", fmt.Sprintf(disabled, 1, "failures")+", queued = true, failure_count = 10, failure_class = 'timeout'")
	b.queue(b.hook(7, "a", "one.example", queued), 1, 3600)
	b.hook(8, "s", "one.example", "suspended = true, failure_count = 2, queued = true")
	b.hook(9, "a", "one.example", fmt.Sprintf(disabled, 3, "operator")+", disabled_note = 'too many complaints'")
	b.queue(b.hook(10, "a", "one.example", failures(3, "timeout")), 3, 200)
	b.execute(`INSERT INTO deliveries (id, webhook_id, event_id, attempt, success, error, duration_ms, attempted_at)
		SELECT ` + dbtest.DeliveryID("now()") + `, id, 'e', n, n = 1, CASE WHEN n > 1 THEN 'dns: ' || n END, 1, now() FROM webhooks, generate_series(1, 3) n WHERE failure_count = 7`)
	return b
}

func TestService_ListWebhooks(t *testing.T) {
	t.Parallel()
	b := trouble(t)
	for name, c := range map[string]struct {
		filter WebhookFilter
		want   []int
	}{
		"All":                     {WebhookFilter{}, []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		"Active":                  {WebhookFilter{State: "active"}, []int{1}},
		"FailingMostFirst":        {WebhookFilter{State: "failing"}, []int{3, 2, 10}},
		"ByFailures":              {WebhookFilter{Sort: "failures"}, []int{3, 2, 10}},
		"FailingAsMade":           {WebhookFilter{State: "failing", Sort: "created"}, []int{2, 3, 10}},
		"FailingWithAClass":       {WebhookFilter{State: "failing", ErrorClass: "timeout"}, []int{2, 10}},
		"FailingOldestDueFirst":   {WebhookFilter{State: "failing", Sort: "oldest"}, []int{2, 10, 3}},
		"Queued":                  {WebhookFilter{State: "queued"}, []int{7}},
		"LongestQueueFirst":       {WebhookFilter{Sort: "waiting"}, []int{3, 2, 10, 7}},
		"OldestDueFirst":          {WebhookFilter{Sort: "oldest"}, []int{7, 2, 10, 3}},
		"DisabledLastFirst":       {WebhookFilter{State: "disabled"}, []int{6, 5, 9, 4}},
		"DisabledByFailures":      {WebhookFilter{DisabledReason: "failures"}, []int{6, 4}},
		"DisabledByFailuresAndDN": {WebhookFilter{DisabledReason: "failures", ErrorClass: "dns"}, []int{4}},
		"DisabledOfABot":          {WebhookFilter{State: "disabled", BotID: "b"}, []int{5, 4}},
		"DisabledByAnOperator":    {WebhookFilter{DisabledReason: "operator"}, []int{9}},
		"Suspended":               {WebhookFilter{State: "suspended"}, []int{8}},
		"OfABot":                  {WebhookFilter{BotID: "b"}, []int{3, 4, 5}},
		"AtAHost":                 {WebhookFilter{Host: "Two.Example"}, []int{2, 3}},
		"AtAHostWithAPort":        {WebhookFilter{Host: "two.example:8443"}, []int{2}},
		"AtAHostOfABot":           {WebhookFilter{Host: "one.example", BotID: "a"}, []int{1, 6, 7, 9, 10}},
		"OfNobody":                {WebhookFilter{BotID: "nobody"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			page, next, err := b.ListWebhooks(t.Context(), c.filter)
			require.NoError(t, err)
			require.Equal(t, c.want, numbers(page))
			require.Empty(t, next)

			var paged []int
			c.filter.Limit = 1
			for range 20 {
				page, next, err := b.ListWebhooks(t.Context(), c.filter)
				require.NoError(t, err)
				require.LessOrEqual(t, len(page), 1)
				paged = append(paged, numbers(page)...)
				if c.filter.After = next; next == "" {
					break
				}
			}
			require.Equal(t, c.want, paged, "page by page")
		})
	}
}

func TestService_ListWebhooks_Row(t *testing.T) {
	t.Parallel()
	b := trouble(t)
	page, _, err := b.ListWebhooks(t.Context(), WebhookFilter{BotID: "b"})
	require.NoError(t, err)
	failing := page[0]
	require.Equal(t, []any{"b", "two.example", Failing, 7, 5, "dns: 3", "dns"},
		[]any{failing.BotID, failing.Host, failing.State, failing.FailureCount, failing.Waiting, *failing.LastError, failing.ErrorClass})
	require.NotNil(t, failing.OldestDueAt)
	require.Nil(t, failing.DisabledAt)
	require.Equal(t, "failures", *page[1].DisabledReason)

	b.execute("UPDATE queue SET due_at = 'epoch' WHERE webhook_id = $1", failing.ID)
	page, _, err = b.ListWebhooks(t.Context(), WebhookFilter{Sort: "oldest"})
	require.NoError(t, err)
	require.Equal(t, []int{7, 2, 10, 3}, numbers(page), "what was made due at once is not the oldest")
	require.Nil(t, page[3].OldestDueAt)
	require.Equal(t, 5, page[3].Waiting)
}

// TestService_ListWebhooks_APageMayBeShort: what is wanted stands behind more than one call reads.
func TestService_ListWebhooks_APageMayBeShort(t *testing.T) {
	t.Parallel()
	b := newBed(t)
	b.bot("a")
	b.execute(`INSERT INTO webhooks (id, bot_id, url, origin, events)
		SELECT ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'a', '', 'https://one.example', '{post.created}' FROM generate_series(1, $1::integer) n`, mostRead+100)
	b.hook(mostRead+200, "a", "two.example", failures(1, "dns"))
	b.execute("UPDATE webhooks SET queued = false")
	filter := WebhookFilter{ErrorClass: "dns"}
	page, next, err := b.ListWebhooks(t.Context(), filter)
	require.NoError(t, err)
	require.Empty(t, page)
	require.NotEmpty(t, next)
	filter.After = next
	page, next, err = b.ListWebhooks(t.Context(), filter)
	require.NoError(t, err)
	require.Equal(t, []int{mostRead + 200}, numbers(page))
	require.Empty(t, next)
}

func TestService_ListWebhooks_EveryFaultIsNamed(t *testing.T) {
	t.Parallel()
	_, _, err := (&Service{}).ListWebhooks(t.Context(), WebhookFilter{
		State: "broken", DisabledReason: "boredom", BotID: "no id", ErrorClass: "bad", Sort: "size", After: "x", Limit: MaxListed + 1,
	})
	require.Equal(t, problem.Invalid, problem.Of(err).Kind)
	var fields []string
	for _, f := range problem.Of(err).Fields {
		fields = append(fields, f.Field)
	}
	require.ElementsMatch(t, []string{"state", "disabledReason", "disabledReason", "botId", "errorClass", "sort", "after", "limit"}, fields)
	_, _, err = (&Service{}).ListWebhooks(t.Context(), WebhookFilter{Sort: ByDisabling, After: "-300000000000000000.0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71"})
	require.Equal(t, problem.Invalid, problem.Of(err).Kind, "it is no time of Postgres's")
}
