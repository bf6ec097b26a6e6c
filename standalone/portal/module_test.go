package portal_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheModule: what it adds to a page. The focus comes back from a dialog to where it was.
func TestTheModule(t *testing.T) {
	s := newSite(t)
	s.fill()
	b := s.signedIn(t, "manage", tabOptions{})
	require.Equal(t, "/portal/webhooks", b.Here(), "what an action left in the address is gone")
	require.True(t, eval[bool](b, `[...document.querySelectorAll("time[datetime]")].every(time => time.title === time.dateTime && !time.textContent.includes("UTC"))`))
	b.Keys("j")
	focused := `document.activeElement.getAttribute("href")`
	first := eval[string](b, focused)
	require.Contains(t, first, "/portal/webhooks/")
	b.Keys("?")
	b.Await("dialog[open]")
	b.Keys("\x1b")
	require.False(t, b.Has("dialog[open]"))
	require.Equal(t, first, eval[string](b, focused))
	b.Keys("gs")
	b.AwaitText("Notification URL")
	b.Click("form[action*='/sessions/'] button")
	b.AwaitText("You are signed out.")
}
