package api_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
)

// TestWhatIsBeingDeletedIsNotFound: a call has read what is deleted before it writes.
func TestWhatIsBeingDeletedIsNotFound(t *testing.T) {
	t.Parallel()
	const deleteWebhook, deleteBot = "DELETE FROM webhooks WHERE id = $1", "DELETE FROM bots WHERE id = $1"
	for name, c := range map[string]struct {
		sql  string
		call func(a *testAPI, hook, bot, key string) answer
	}{
		"Recover": {deleteWebhook, func(a *testAPI, hook, _, key string) answer {
			return a.do(http.MethodPost, webhooksPath+"/"+hook+"/recover", key, nil)
		}},
		"UpdateWebhook": {deleteWebhook, func(a *testAPI, hook, _, key string) answer {
			return a.do(http.MethodPatch, webhooksPath+"/"+hook, key, `{"events":["mention"]}`)
		}},
		"DeleteWebhook": {deleteWebhook, func(a *testAPI, hook, _, key string) answer {
			return a.do(http.MethodDelete, webhooksPath+"/"+hook, key, nil)
		}},
		"CreateWebhook": {deleteBot, func(a *testAPI, _, _, key string) answer {
			return a.do(http.MethodPost, webhooksPath, key, `{"url":"https://example.com/","events":["mention"]}`)
		}},
		"CreateKey": {deleteBot, func(a *testAPI, _, bot, _ string) answer {
			return a.do(http.MethodPost, "/api/internal/v1/bots/"+bot+"/keys", serviceToken, nil)
		}},
		"UpdateBot": {deleteBot, func(a *testAPI, _, bot, _ string) answer {
			return a.do(http.MethodPatch, "/api/internal/v1/bots/"+bot, serviceToken, `{"isActive":false}`)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, nil, nil)
			bot, key := a.bot()
			hook := a.hook(key)
			tx, err := a.pool.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(context.Background()) }()
			require.NoError(t, db.LockWebhook(t.Context(), tx, uuid.MustParse(hook))) // as the deletion of a webhook does
			id := hook
			if c.sql == deleteBot {
				id = bot
			}
			_, err = tx.Exec(t.Context(), c.sql, id)
			require.NoError(t, err)
			result := make(chan answer, 1)
			go func() { result <- c.call(a, hook, bot, key) }()
			require.Eventually(t, func() bool { // until the call waits; that the key is used is written beside it
				var waiting int
				err := a.pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query NOT LIKE '%TouchKey%'").Scan(&waiting)
				return err == nil && waiting == 1
			}, 3*time.Minute, 5*time.Millisecond)
			require.NoError(t, tx.Commit(t.Context()))
			got := <-result
			require.Equal(t, http.StatusNotFound, got.status, "%s", got.body)
		})
	}
}
