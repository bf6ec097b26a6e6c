package portal_test

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/bots"
)

// TestWebhookForm_Stale: a form that was opened before another change does not undo that unasked, whatever it was.
func TestWebhookForm_Stale(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b, other := s.signIn(id, bots.Manage), s.signIn(id, bots.Manage)
	hook := b.subscribe(hookForm())
	was := func(page answer) string {
		return regexp.MustCompile(`name="was" value="([0-9a-f]{16})"`).FindStringSubmatch(page.body)[1]
	}
	for i, change := range []url.Values{
		hookForm("url", "https://bots.example.org/new"), hookForm("name", "New"), hookForm("events", "post.created"), hookForm("ordered", "1"),
		hookForm("filterField", "threadId", "filterValues", "t1"),
	} {
		opened := b.get(hook + "/edit")
		changed := other.post(hook+"/edit", change)
		require.Equal(t, http.StatusSeeOther, changed.status, "%d: %s", i, changed.body)
		stale := hookForm("was", was(opened))
		faulty := hookForm("was", was(opened), "url", "ftp://x")
		stale.Set("preview", "filter")
		require.Equal(t, was(opened), was(b.post(hook+"/edit", stale)), "a preview is of what the form was opened on")
		stale.Del("preview")
		refused := b.post(hook+"/edit", stale)
		require.Equal(t, http.StatusConflict, refused.status, "%d", i)
		require.Equal(t, http.StatusConflict, b.post(hook+"/edit", faulty).status, "%d", i)
		require.Contains(t, refused.body, "was changed since you opened this form")
		stale.Set("was", was(refused))
		require.Equal(t, http.StatusSeeOther, b.post(hook+"/edit", stale).status, "saved again, it is meant")
	}
}

// TestWebhookForm_StaleMeanwhile: of two forms that are saved at once, the second is stale.
func TestWebhookForm_StaleMeanwhile(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	hook := b.subscribe(hookForm())
	was := regexp.MustCompile(`name="was" value="([0-9a-f]{16})"`).FindStringSubmatch(b.get(hook + "/edit").body)[1]
	tx, err := s.pool.Begin(t.Context())
	require.NoError(t, err)
	defer tx.Rollback(context.Background()) //nolint:errcheck // nothing once it is committed
	require.NoError(t, db.LockWebhook(t.Context(), tx, uuid.MustParse(strings.TrimPrefix(hook, list+"/"))))
	answers := make(chan int)
	for _, name := range []string{"one", "two"} {
		go func() { answers <- b.post(hook+"/edit", hookForm("was", was, "name", name)).status }()
	}
	require.Eventually(t, func() bool {
		var waiting int
		err := s.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").Scan(&waiting)
		return err == nil && waiting == 2
	}, 3*time.Minute, 5*time.Millisecond)
	require.NoError(t, tx.Commit(t.Context()))
	require.ElementsMatch(t, []int{http.StatusSeeOther, http.StatusConflict}, []int{<-answers, <-answers})
}

// TestAPageThatIsLoadedAgainMakesNothing: neither a webhook, nor a secret, nor a key.
func TestAPageThatIsLoadedAgainMakesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	once := func(page string) string {
		return regexp.MustCompile(`name="once" value="([0-9a-f-]{36})"`).FindStringSubmatch(b.get(page).body)[1]
	}
	refused := b.post(list, hookForm("once", once(list+"/new"), "url", "ftp://x"))
	again := regexp.MustCompile(`name="once" value="([0-9a-f-]{36})"`).FindStringSubmatch(refused.body)[1]
	hook := b.subscribe(hookForm("once", again))
	require.Equal(t, http.StatusConflict, b.post(list, hookForm("once", again)).status)
	var webhooks int
	require.NoError(t, s.pool.QueryRow(t.Context(), "SELECT count(*) FROM webhooks").Scan(&webhooks))
	require.Equal(t, 1, webhooks)
	for form, to := range map[string]string{hook + "/rotate": hook + "/rotate", "/portal/settings": "/portal/settings/keys"} {
		values := url.Values{"once": {once(form)}, "kind": {"generated"}, "overlap": {"0s"}}
		require.Equal(t, http.StatusOK, b.post(to, values).status, to)
		require.Equal(t, http.StatusConflict, b.post(to, values).status, to)
	}
}
