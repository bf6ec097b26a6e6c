package portal_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/history"
)

// TestPausesAreShown to the owners of the webhooks that they cover, on every page, and to nobody else.
func TestPausesAreShown(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	hook := b.subscribe(hookForm())
	another, _ := s.bot()
	o := s.signIn(another, bots.Manage)
	o.subscribe(hookForm("url", "https://other.example.org/"))
	pauses := &history.Pauses{Pool: s.pool}
	for _, c := range []struct {
		scope       history.PauseScope
		value, says string
		others      bool
	}{
		{history.PauseHost, "bots.example.org", "the deliveries to <bdi>bots.example.org</bdi>", false},
		{history.PauseBot, id, "your deliveries", false},
		{history.PauseAll, "", "all deliveries", true},
	} {
		_, err := pauses.Begin(t.Context(), c.scope, c.value, "We <move>.")
		require.NoError(t, err)
		for _, path := range []string{list, hook, "/portal/deliveries", hook + "/deliveries", "/portal/events"} {
			shown := b.get(path).body
			require.Contains(t, shown, "Mathub has paused "+c.says, path)
			require.Contains(t, shown, "We &lt;move&gt;.", path)
		}
		require.Contains(t, b.get(list).body, "Paused by Mathub")
		require.Contains(t, b.get(hook).body, "Paused by Mathub")
		if !c.others {
			require.NotContains(t, o.get(list).body, "Mathub has paused")
		}
		require.NoError(t, pauses.End(t.Context(), c.scope, c.value))
		require.NotContains(t, b.get(list).body, "Mathub has paused")
		require.NotContains(t, b.get(hook).body, "Paused by Mathub")
	}
}

// TestWhatIsPausedIsNotSent: what the owner asks for is refused with the reason.
func TestWhatIsPausedIsNotSent(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	hook := b.subscribe(hookForm())
	_, err := (&history.Pauses{Pool: s.pool}).Begin(t.Context(), history.PauseAll, "", "We move.")
	require.NoError(t, err)
	for _, action := range []string{"/test", "/verify", "/retry-now"} {
		require.Contains(t, b.post(hook+action, nil).body, "Deliveries of this webhook are paused by an operator since ", action)
	}
}
