package portal_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestALinkOpensThePortalOnce: when its button is pressed, with its code out of sight by then.
func TestALinkOpensThePortalOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	link := s.link("manage")
	path := strings.TrimPrefix(link, s.api.URL)
	b := newTab(t, s.api.URL, tabOptions{})
	b.Go(path)
	b.Await("main button")
	require.Equal(t, "/portal/open", b.Here(), "the code is out of the address, and so out of the history")
	newTab(t, s.api.URL, tabOptions{}).Go(path) // looking does not use it up
	b.Check("open")
	b.Submit("main button")
	require.Equal(t, "Webhooks", b.Text("h1"))
	require.Contains(t, b.Text("header"), "euler")

	again := newTab(t, s.api.URL, tabOptions{NoScript: true})
	again.Go("/portal/open")
	again.Fill("#code", link)
	again.Submit("main button")
	require.Contains(t, again.Text("main"), "This link does not work")
	again.Go("/portal/")
	again.Fill("#key", s.bot.Key)
	again.Submit("main button")
	require.Equal(t, "Webhooks", again.Text("h1"))

	b.Submit("form[action$=sign-out] button")
	require.Contains(t, b.Text("[role=status]"), "signed out")
	b.Go("/portal/webhooks")
	require.Equal(t, "Sign in", b.Text("h1"))
}
