package portal_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// TestDeliveries_PayloadsAreText: whatever an event holds, its page shows it, and is a page like any other.
func TestDeliveries_PayloadsAreText(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.receiver.Answer("/page", testkit.Content(http.StatusOK, "<script>document.title='owned'</script>\u202e\x00"+strings.Repeat("<p>", 2000)))
	hook := s.bot.CreateWebhook(t, s.receiver.URL("/page"), "", "post.created")
	b := s.signedIn(t, "manage", tabOptions{})
	for i, data := range []string{
		nasty, `{"body":"\u0000\u0001"}`, "{\"body\":\"שלום עולם \\u202e \u200fمرحبا\"}", `{"body":"` + strings.Repeat("x", 256<<10-300) + `"}`,
		`{"body":` + strings.Repeat("[", 60) + strings.Repeat("]", 60) + `,"n":12345678901234567890.10}`,
	} {
		event := s.bot.Emit(t, testkit.Event{Type: "post.created", Data: json.RawMessage(data)})
		made := s.bot.AwaitDeliveries(t, hook.ID, i+1)[0]
		require.Equal(t, event.ID, made.EventID)
		b.Go("/portal/webhooks/" + hook.ID + "/deliveries/" + made.ID + "?view=raw")
		shown := b.copied("Body of the request")
		require.True(t, strings.HasSuffix(shown, `"data":`+data+"}"), "%.300s", shown)
		require.NotContains(t, b.Text("pre[aria-label='Body of the response']"), "\u202e", "it would turn what follows")
		require.Contains(t, b.copied("Body of the response"), "<script>document.title='owned'</script>\u202e\uFFFD<p><p>")
		require.NotEqual(t, "owned", do(b, chromedp.Title()))
		b.Check(fmt.Sprintf("payload %d", i))
	}
}

// copied is what the button Copy takes from the pre with that label.
func (b *tab) copied(label string) string {
	b.t.Helper()
	b.allowCopying()
	button := `pre[aria-label="` + label + `"] + [data-copy]`
	b.Click(button)
	require.Eventually(b.t, func() bool { return b.Text(button) == "Copied" }, patience, 50*time.Millisecond)
	return eval[string](b, "navigator.clipboard.readText()")
}

// TestDeliveries_FromAFailureToItsRecovery goes the way of who looks for what went wrong, with JavaScript and without.
func TestDeliveries_FromAFailureToItsRecovery(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]tabOptions{"script": {}, "no script": {NoScript: true}, "touch": {Touch: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			_, bad, _ := s.fill()
			path := "/portal/webhooks/" + bad.ID
			b := s.signedIn(t, "manage", o)
			b.Go("/portal/deliveries?outcome=failed")
			require.Contains(t, b.Text("main"), "HTTP 500")
			b.Submit("tbody tr:last-child a.go")
			require.Contains(t, b.Text("main"), "Failed: the receiver answered with an error of its own (HTTP 500). Attempt 2 is planned.")
			require.Contains(t, b.Text(".timeline"), "Attempt 2 is due")

			s.receiver.Answer("/bad", nil)
			b.Submit("form[action$=attempt-now] button")
			require.Contains(t, b.Text("[role=status]"), "The next attempt is made now.")
			s.bot.AwaitDeliveries(t, bad.ID, 2)
			if o.NoScript {
				b.Submit("form[action$=redeliver] button")
			} else { // it asks
				b.Click("form[action$=redeliver] button")
				b.Submit("dialog .primary")
			}
			require.Contains(t, b.Text("[role=status]"), "Sent again, and delivered.")
			require.Contains(t, b.Text("main"), "Delivered: the receiver answered")
			require.Contains(t, b.Text(".timeline"), "Attempt 3, this one")

			// What it missed while it was paused.
			b.Go(path)
			b.Submit("form[action$=disable] button")
			for range 3 {
				s.bot.Emit(t, testkit.Event{Type: "post.created", Data: json.RawMessage(`{}`)})
			}
			require.Eventually(t, func() bool { // they are stored a moment after they are accepted
				b.Go(path + "/recover")
				return strings.Contains(b.Text("main"), "3 events missed")
			}, patience, 50*time.Millisecond)
			require.Contains(t, b.Text("main"), "The webhook is disabled.")
			b.Go(path)
			b.Submit(".banner form[action$=enable] button")
			require.Contains(t, b.Text("main"), "3 events missed")
			b.Submit("form[method=post][action$=recover] button")
			require.Contains(t, b.Text("[role=status]"), "The recovery has started.")
			s.bot.AwaitDeliveries(t, bad.ID, 6)
			s.bot.AwaitRecovery(t, bad.ID)
			b.Go(path + "/recover")
			require.Contains(t, b.Text("main"), "3 of 3")
			if !o.NoScript && !o.Touch {
				b.Check("recovered")
				b.Go("/portal/deliveries")
				b.Check("deliveries")
				b.Go("/portal/deliveries?since=nonsense")
				b.Check("deliveries at fault")
				b.Go(path + "/deliveries?outcome=failed")
				b.Submit(".head .actions a")
				require.Contains(t, b.Text("main"), "0 events missed", "all arrived meanwhile")
			}
		})
	}
}
