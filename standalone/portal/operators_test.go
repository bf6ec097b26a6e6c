package portal_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestOperatorsPages: axe-core finds nothing on any, light and dark, wide and narrow, and none is scrolled sideways. At most two
// clicks lead to what the docs promise. A bot is suspended, and a host paused and resumed, by keyboard.
func TestOperatorsPages(t *testing.T) {
	t.Parallel()
	port, err := freeport.Find()
	require.NoError(t, err)
	admin := fmt.Sprintf("127.0.0.1:%d", port)
	s := newSiteWith(t, testkit.Options{Env: map[string]string{"MATHUB_ADMIN_ADDR": admin, "MATHUB_EGRESS_CHECK": ""}})
	_, bad, event := s.fill()
	b := newTab(t, "http://"+admin, tabOptions{})
	for _, path := range []string{
		"/ops", "/ops/late", "/ops/bots", "/ops/keys", "/ops/bots/" + s.bot.ID, "/ops/bots/" + s.bot.ID + "/suspend", "/ops/bots/" + s.bot.ID + "/delete",
		"/ops/webhooks", "/ops/webhooks/" + bad.ID, "/ops/webhooks/" + bad.ID + "/disable", "/ops/events", "/ops/events/" + event,
		"/ops/incidents", "/ops/incidents/plan?disabledSince=2025-03-20T10:00", "/ops/pauses", "/ops/audit", "/ops/nowhere",
	} {
		b.Go(path)
		b.Check("operators " + path)
	}
	_, err = s.stack.Database(t).Exec(t.Context(), "INSERT INTO fuses (class) VALUES ('dns')")
	require.NoError(t, err)
	b.Go("/ops")
	b.picture("operators-light", 1280, "light")
	b.picture("operators-dark", 1280, "dark")
	s.atMostTwoClicks(b, event)
	k := keyboard{b}
	b.Go("/ops/bots/" + s.bot.ID)
	k.follow("a[href$='/suspend']")
	k.write("#suspendedReason", "It floods its own receiver.")
	k.follow("main form .danger")
	b.AwaitText("The bot is suspended.")
	b.Go("/ops/keys")
	k.write("#key", s.bot.Key[:12])
	k.follow("main form .primary")
	b.Await("a[href='/ops/bots/" + s.bot.ID + "']")
	b.Check("operators, a key that is found")
	b.Go("/ops/pauses")
	k.write("#value", "bots.example.org")
	k.write("#reason", "The owner asked us to wait.")
	k.follow("main form .danger")
	b.AwaitText("The deliveries are paused.")
	k.follow("button[aria-label^='End the pause']")
	b.AwaitText("Nothing is paused.")
}
