package portal_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/bots"
)

// TestAWebhookIsOrderedByItsForm, and its page shows what waits behind what.
func TestAWebhookIsOrderedByItsForm(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	hook := b.subscribe(hookForm("ordered", "1"))
	one := b.get(hook).body
	require.Contains(t, one, "one at a time, in the order of acceptance")
	require.Contains(t, one, ">Active<", "an ordered webhook for which nothing waits is no trouble")
	ticked := regexp.MustCompile(`name="ordered" value="1" checked`)
	require.Regexp(t, ticked, b.get(hook+"/edit").body)
	require.NotContains(t, one, "<h2>Waiting</h2>")

	_, err := s.pool.Exec(t.Context(), "INSERT INTO events (id, type, payload, run_id) SELECT 'e' || n, 'post.created', '{}', 'run' FROM generate_series(1, 12) n")
	require.NoError(t, err)
	_, err = s.pool.Exec(t.Context(), "INSERT INTO queue (webhook_id, event_id, attempt, step, trigger, due_at) SELECT $1, 'e' || n, 1, 1, 'event', now() + n * interval '1 ms' FROM generate_series(1, 12) n",
		hook[strings.LastIndex(hook, "/")+1:])
	require.NoError(t, err)
	one = b.get(hook).body
	require.Contains(t, one, "<h2>Waiting</h2>")
	require.Equal(t, 9, strings.Count(one, "After those before it"))

	require.Equal(t, http.StatusSeeOther, b.post(hook+"/edit", hookForm()).status)
	require.NotRegexp(t, ticked, b.get(hook+"/edit").body)
	require.NotContains(t, b.get(hook).body, "After those before it")
	kept := b.post(hook+"/edit", hookForm("ordered", "1", "url", "http:"))
	require.Regexp(t, ticked, kept.body, "a form with a mistake keeps it")
}
