package portal_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestPictures goes from a new webhook to its deliveries and events, and looks at each page. "make pictures" makes the docs'
// pictures so.
func TestPictures(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.receiver.Answer("/staging", testkit.Content(http.StatusServiceUnavailable, "upstream is away"))
	staging := s.bot.CreateWebhook(t, s.receiver.URL("/staging"), "", "wiki.edited")
	named, err := s.api.Do(t.Context(), http.MethodPatch, "/api/bot/v1/webhooks/"+staging.ID, s.bot.Key, map[string]string{"name": "Staging"})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, named.Status)
	b := s.signedIn(t, "manage", tabOptions{})

	b.Go("/portal/webhooks/new")
	b.Fill("#url", s.receiver.URL("/mathub"))
	b.Fill("#name", "Production")
	b.Click("input[value='post.created']")
	b.Click("input[value='mention']")
	b.Submit("main .actions .primary")
	b.AwaitText("The webhook was created")
	require.Regexp(t, `^whsec_[A-Za-z0-9+/=]{44}$`, b.Text("#secret-value"))
	b.Check("created")
	b.picture("portal-secret", 1280, "light")
	b.Submit("form[action$='/test'] button")
	b.AwaitText("The test arrived")

	var event string
	for _, body := range []string{"The bound in (3) can be improved.", "It can: use the large sieve.", "QED"} {
		data, err := json.Marshal(map[string]string{"postId": "pst_01HQ3Z9N7P", "threadId": "thr_01HQ3Z8K4M", "body": body, "authorId": "usr_01HQ2X5T6W"})
		require.NoError(t, err)
		event = s.bot.Emit(t, testkit.Event{Type: "post.created", Data: data}).ID
	}
	s.bot.Emit(t, testkit.Event{Type: "wiki.edited", Data: json.RawMessage(`{"projectSlug":"twin-primes","pageSlug":"notation","title":"Notation","editorId":"usr_01HQ2X5T6W"}`)})
	failed := s.bot.AwaitDeliveries(t, staging.ID, 1)[0]
	for _, p := range []struct{ name, path, shows string }{
		{"webhooks", "/portal/webhooks", "Production"},
		{"webhook", "/portal/webhooks/" + staging.ID, "Failing, 1 of 10"},
		{"delivery", "/portal/webhooks/" + staging.ID + "/deliveries/" + failed.ID, "upstream is away"},
		{"events", "/portal/events", event},
	} {
		b.Go(p.path)
		b.AwaitText(p.shows)
		b.picture("portal-"+p.name, 1280, "light")
	}
	b.Go("/portal/webhooks")
	b.picture("portal-phone", 390, "dark")
}

// picture checks that the page is built as on the picture of that name in docs/images: the same headings, columns and choices, which
// stand in a text beside it. With MATHUB_PICTURES, a folder, it keeps both instead.
func (b *tab) picture(name string, width int64, scheme string) {
	b.t.Helper()
	outline := varying.ReplaceAllString(eval[string](b, `[...document.querySelectorAll("h1, h2, th, dt, nav a, label, .btn, button")]
		.map(e => e.tagName.toLowerCase() + " " + e.textContent.trim().replace(/\s+/g, " ")).sort().filter((line, i, all) => line !== all[i-1]).join("\n") + "\n"`), "#")
	folder := os.Getenv("MATHUB_PICTURES")
	if folder == "" {
		kept, err := os.ReadFile("../../docs/images/" + name + ".txt")
		require.NoError(b.t, err)
		require.Equal(b.t, string(kept), outline, "the picture %s shows another page; make pictures", name)
		return
	}
	require.NoError(b.t, os.WriteFile(filepath.Join(folder, name+".txt"), []byte(outline), 0o600))
	b.Size(width)
	b.Scheme(scheme)
	require.NoError(b.t, os.WriteFile(filepath.Join(folder, name+".png"), do(b, chromedp.FullScreenshot(100)), 0o600))
	b.Size(1280)
	b.Scheme("light")
}

// varying is what differs from one run to the next: ids, ports, times and counts.
var varying = regexp.MustCompile(`[0-9][0-9a-f.:-]*( [AP]M)?`)
