package portal_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestLongNames: whatever a bot, a webhook, a key, a label and a URL are called, as long as each may be and without a space to
// break at, no page is scrolled sideways.
func TestLongNames(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.bot = s.api.CreateBot(t, strings.Repeat("B", 200))
	long := s.receiver.URL("/" + strings.Repeat("u", 2048-len(s.receiver.URL("/"))))
	s.receiver.Answer("/"+long[len(s.receiver.URL("/")):], testkit.Content(http.StatusInternalServerError, strings.Repeat("r", 4096)))
	named := s.bot.CreateWebhook(t, long, "", "post.created", "mention", "wiki.edited")
	unnamed := s.bot.CreateWebhook(t, s.receiver.URL("/"+strings.Repeat("v", 500)), "", "post.created")
	set, err := s.api.Do(t.Context(), http.MethodPatch, "/api/bot/v1/webhooks/"+named.ID, s.bot.Key, map[string]string{"name": strings.Repeat("W", 100)})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, set.Status)
	event := s.bot.Emit(t, testkit.Event{ID: strings.Repeat("E", 128), Type: "post.created", Data: json.RawMessage(`{"` + strings.Repeat("k", 3000) + `":1}`)}).ID
	failed := s.bot.AwaitDeliveries(t, named.ID, 1)[0]
	b := newTab(t, s.api.URL, tabOptions{})
	b.Go(strings.TrimPrefix(s.labelled("manage", strings.Repeat("L", 200)), s.api.URL))
	b.Submit("main button")
	for path, body := range map[string]map[string]string{"POST /keys": {"name": strings.Repeat("K", 200)}, "PATCH /bot": {"notifyUrl": long}} {
		method, path, _ := strings.Cut(path, " ")
		made, err := s.api.Do(t.Context(), method, "/api/bot/v1"+path, s.bot.Key, body)
		require.NoError(t, err)
		require.Less(t, made.Status, 300, "%s", made.Body)
	}
	for _, pattern := range getRoutes(t) {
		for _, id := range []string{named.ID, unnamed.ID} {
			if id == unnamed.ID && (!strings.Contains(pattern, "{id}") || strings.Contains(pattern, "{deliveryID}")) {
				continue
			}
			path := strings.NewReplacer("{$}", "", "{id}", id, "{deliveryID}", failed.ID, "{eventID}", event).Replace(pattern)
			b.Go(path)
			for _, width := range []int64{1280, 900, 360} {
				b.Size(width)
				b.fits(width, fmt.Sprintf("%s, %d px", path, width))
				b.shoot(fmt.Sprintf("long-%s-%d", pattern, width))
			}
		}
	}
	// Disabled, with the banners of that.
	s.bot.SetActive(t, named.ID, false)
	for _, path := range []string{"/portal/webhooks", "/portal/webhooks/" + named.ID, "/portal/webhooks/" + named.ID + "/recover", "/portal/webhooks/" + named.ID + "/deliveries/" + failed.ID} {
		b.Go(path)
		for _, width := range []int64{1280, 360} {
			b.Size(width)
			b.fits(width, fmt.Sprintf("%s, disabled, %d px", path, width))
		}
	}
}
