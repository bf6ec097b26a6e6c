package portal_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/standalone/testkit"
)

// site is the product with a bot.
type site struct {
	t        testing.TB
	stack    *testkit.Stack
	api      *testkit.API
	bot      *testkit.Bot
	receiver *testkit.Receiver
}

// newSite is a new bot of the product that the tests share.
func newSite(t testing.TB) *site {
	t.Helper()
	return newSiteOn(t, testkit.Shared(t))
}

// newSiteWith starts a product of the test's own.
func newSiteWith(t testing.TB, options testkit.Options) *site {
	t.Helper()
	return newSiteOn(t, testkit.Start(t, options))
}

func newSiteOn(t testing.TB, stack *testkit.Stack) *site {
	t.Helper()
	return &site{t, stack, stack.API(), stack.API().CreateBot(t, "euler"), testkit.NewReceiver(t)}
}

// link is a new one to the portal of the bot, made by the service API; role is manage or view.
func (s *site) link(role string) string {
	s.t.Helper()
	return s.labelled(role, "Ada")
}

// labelled is a link for somebody.
func (s *site) labelled(role, label string) string {
	s.t.Helper()
	service, err := mathub.NewService(s.api.URL, s.api.ServiceToken)
	require.NoError(s.t, err)
	link, err := service.CreatePortalLink(s.t.Context(), s.bot.ID, &mathub.NewPortalLink{Role: role, Label: label})
	require.NoError(s.t, err)
	return link.Value.URL
}

// signedIn is a tab that has opened the portal by a link.
func (s *site) signedIn(t testing.TB, role string, o tabOptions) *tab {
	t.Helper()
	b := newTab(t, s.api.URL, o)
	link := s.link(role)
	b.Go(strings.TrimPrefix(link, s.api.URL))
	if o.NoScript {
		b.Fill("#code", link)
	}
	b.Submit("main button")
	return b
}

// nasty is a payload that a page must show as text.
const nasty = `{"postId":"<script>document.title='owned'</script>","threadId":"\u0000\u202egnp.exe","body":"\"><img src=x onerror=alert(1)>","authorId":"&lt;b&gt;"}`

// fill gives the bot two webhooks: "/ok" took an event, "/bad" refused it with a page of its own.
func (s *site) fill() (ok, bad testkit.Webhook, event string) {
	s.t.Helper()
	s.receiver.Answer("/bad", testkit.Content(http.StatusInternalServerError, "<h1>broken</h1><script>alert(1)</script>"))
	ok = s.bot.CreateWebhook(s.t, s.receiver.URL("/ok"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "post.created", "mention")
	bad = s.bot.CreateWebhook(s.t, s.receiver.URL("/bad"), "", "post.created")
	receipt := s.bot.Emit(s.t, testkit.Event{Type: "post.created", Data: json.RawMessage(nasty)})
	s.bot.AwaitDeliveries(s.t, ok.ID, 1)
	s.bot.AwaitDeliveries(s.t, bad.ID, 1)
	return ok, bad, receipt.ID
}
