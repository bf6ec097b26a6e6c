package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/db"
)

// TestACursorThatIsNoneIsNamed, on every page there is: an id that leads to nothing of the bot's is none, either.
func TestACursorThatIsNoneIsNamed(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	bot, key := a.bot()
	_, other := a.bot()
	hook, others := a.hook(key), a.hook(other)
	a.accepted("e1", "post.created", "{}")
	for path, page := range map[string]struct{ token, cursor string }{
		webhooksPath: {key, "after"},
		webhooksPath + "/" + hook + "/deliveries": {key, "before"},
		pollPath:                                 {key, "after"},
		eventsPath + "/e1":                       {serviceToken, "after"},
		"/api/internal/v1/webhooks?botId=" + bot: {serviceToken, "after"},
	} {
		cursors := []string{"", "x", "-1", "\x00", "\xff\xfe", "99999999999999999999", "AYPn-x0=", strings.Repeat("A", 4000), uuid.NewString() + "x"}
		if path != eventsPath+"/e1" { // where one leads to what comes after it, whatever it was of
			cursors = append(cursors, uuid.NewString(), others)
		}
		for _, cursor := range cursors {
			separator := "?"
			if strings.Contains(path, "?") {
				separator = "&"
			}
			got := a.do(http.MethodGet, path+separator+page.cursor+"="+url.QueryEscape(cursor), page.token, nil)
			require.Equal(t, http.StatusUnprocessableEntity, got.status, "%s %q %s", path, cursor, got.body)
			require.Equal(t, []string{page.cursor}, got.fields(t), "%s %q", path, cursor)
		}
	}
}

// TestWhatAnotherKeysetSealedIsUnavailable, to a process that lacks the key, and to nobody else: a cursor is not sealed.
func TestWhatAnotherKeysetSealedIsUnavailable(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	hook := a.hook(key)
	text, err := db.NewKeyset()
	require.NoError(t, err)
	keyset, err := db.ParseKeyset(text)
	require.NoError(t, err)
	fresh := newAPI(t, nil, func(c *api.Config) { c.Pool, c.Keyset = a.pool, keyset })
	for path, token := range map[string]string{
		webhooksPath: key, webhooksPath + "/" + hook: key, "/api/internal/v1/webhooks/" + hook: serviceToken,
	} {
		got := fresh.do(http.MethodGet, path, token, nil)
		require.Equal(t, http.StatusServiceUnavailable, got.status, path)
		require.NotEmpty(t, got.header.Get("Retry-After"))
		require.Contains(t, got.fault(t).Detail, "cannot be decrypted with this process's keyset")
		require.Equal(t, http.StatusOK, a.do(http.MethodGet, path, token, nil).status, path)
	}
	require.Equal(t, http.StatusOK, fresh.do(http.MethodGet, webhooksPath+"?after="+hook, key, nil).status)
	require.Equal(t, http.StatusOK, fresh.do(http.MethodGet, webhooksPath+"/"+hook+"/deliveries", key, nil).status)
}
