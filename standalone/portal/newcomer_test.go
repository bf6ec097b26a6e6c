package portal_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// hand is how a reader works a page: each thing by a CSS selector.
type hand interface {
	press(selector string)       // what acts on the page
	follow(selector string)      // what leads to another page
	write(selector, text string) // into a field
}

// TestNewcomer goes the whole way of who has never seen the product, from a link to the recovery of what was missed: once
// with keys only, once with a finger on a phone.
func TestNewcomer(t *testing.T) {
	t.Parallel()
	s := newSiteWith(t, testkit.Options{Env: map[string]string{"MATHUB_RETRY_SCHEDULE": "200ms"}})
	for name, with := range map[string]struct {
		options tabOptions
		hand    func(*tab) hand
	}{
		"keyboard": {tabOptions{}, func(b *tab) hand { return keyboard{b} }},
		"touch":    {tabOptions{Touch: true}, func(b *tab) hand { return finger{b} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := &site{t, s.stack, s.api, s.api.CreateBot(t, name), testkit.NewReceiver(t)}
			b := newTab(t, s.api.URL, with.options)
			n := &newcomer{own, b, with.hand(b), ""}
			n.createsAWebhook()
			n.sendsATest()
			n.breaksTheReceiver()
			n.readsWhy()
			n.recovers()
		})
	}
}

// newcomer is a bot developer at the portal.
type newcomer struct {
	*site
	tab    *tab
	hand   hand
	secret string // as the page showed it
}

const newcomersPath = "/mathub"

func (n *newcomer) createsAWebhook() {
	n.t.Helper()
	n.tab.Go(strings.TrimPrefix(n.link("manage"), n.api.URL))
	n.hand.follow("main button")
	n.hand.follow(".empty a[href$='/webhooks/new']")
	n.hand.write("#url", n.receiver.URL(newcomersPath))
	n.hand.write("#name", "Mine")
	n.hand.press("input[value='post.created']")
	n.hand.follow("main .actions .primary")
	n.tab.AwaitText("The webhook was created")
	n.secret = n.tab.Text("#secret-value")
	n.tab.allowCopying()
	n.hand.press("#secret-value + button")
	n.tab.AwaitText("Copied")
	require.Equal(n.t, n.secret, eval[string](n.tab, "navigator.clipboard.readText()"))
}

func (n *newcomer) sendsATest() {
	n.t.Helper()
	n.hand.follow("form[action$='/test'] button")
	n.tab.AwaitText("The test arrived")
	n.verified(1)
}

// breaksTheReceiver sees, without a reload, the webhook fail and be disabled.
func (n *newcomer) breaksTheReceiver() {
	n.t.Helper()
	n.hand.follow(".crumbs a[href*='/webhooks/']")
	n.tab.AwaitText("Active")
	n.receiver.Answer(newcomersPath, testkit.Content(http.StatusInternalServerError, "out of memory"))
	emitted := func() { n.bot.Emit(n.t, testkit.Event{Type: "post.created", Data: json.RawMessage(`{}`)}) }
	emitted()
	n.tab.AwaitText("Failing, ")
	for range missed - 1 {
		emitted()
	}
	n.tab.AwaitText("Ten deliveries in a row failed")
	require.Contains(n.t, n.tab.Text(".head"), "Disabled by failures")
	require.Contains(n.t, n.tab.Text("#recent"), "HTTP 500")
}

// missed is how many events come while the receiver is broken.
const missed = 12

func (n *newcomer) readsWhy() {
	n.t.Helper()
	n.hand.follow(".banner p a")
	require.Contains(n.t, n.tab.Text("main"), "the receiver answered with an error of its own (HTTP 500)")
	require.Contains(n.t, n.tab.Text("pre[aria-label='Body of the response']"), "out of memory")
	n.hand.follow(".crumbs a[href*='/webhooks/']")
}

// recovers mends the receiver, tests it, enables the webhook and has what was missed delivered.
func (n *newcomer) recovers() {
	n.t.Helper()
	n.receiver.Answer(newcomersPath)
	before := len(n.receiver.Requests(newcomersPath))
	n.hand.follow("[data-key=t]")
	n.hand.follow("main .actions .primary")
	n.tab.AwaitText("The test arrived")
	n.hand.follow(".crumbs a[href*='/webhooks/']")
	n.hand.follow(".banner form .primary")
	n.tab.AwaitText("The webhook is enabled.")
	require.Contains(n.t, n.tab.Text("main"), "12 events missed")
	n.hand.follow("form[method=post][action$=recover] button")
	n.tab.AwaitText("12 of 12") // without a reload
	require.Eventually(n.t, func() bool { return !strings.Contains(n.tab.Text("main"), "Cancel the recovery") }, patience, 50*time.Millisecond)
	n.verified(before + 1 + missed)
	arrived := map[string]bool{}
	for _, r := range n.receiver.Requests(newcomersPath)[before+1:] {
		arrived[r.EventID()] = true
	}
	require.Len(n.t, arrived, missed)
	n.hand.follow(".crumbs a[href*='/webhooks/']")
	require.Contains(n.t, n.tab.Text(".head"), "Active")
}

// verified holds all that the receiver has got to the secret that the page showed.
func (n *newcomer) verified(count int) {
	n.t.Helper()
	check, err := standardwebhooks.NewWebhook(n.secret)
	require.NoError(n.t, err)
	for _, r := range n.receiver.Await(n.t, newcomersPath, count) {
		require.NoError(n.t, check.Verify(r.Body, r.Header))
	}
	require.Len(n.t, n.receiver.Requests(newcomersPath), count)
}
