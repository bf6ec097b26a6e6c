package portal_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/bots"
)

// TestWhatIsNoTextIsRefused, in a query or a form, and changes nothing.
func TestWhatIsNoTextIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	id, _ := s.bot()
	b := s.signIn(id, bots.Manage)
	for _, path := range []string{"/portal/deliveries?error=%ff", "/portal/events?type=%ff", "/portal/webhooks?q=%ff", "/portal/settings?%ff=1"} {
		require.Equal(t, http.StatusBadRequest, b.get(path).status, path)
	}
	for _, path := range []string{"/portal/deliveries?error=%00", "/portal/events?type=%00", "/portal/events?type=x"} {
		require.Equal(t, http.StatusUnprocessableEntity, b.get(path).status, path)
	}
	require.Equal(t, http.StatusBadRequest, b.post("/portal/settings/keys", url.Values{"name": {"\xff"}}).status)
	require.Equal(t, http.StatusUnprocessableEntity, b.post("/portal/settings/notify", nil).status, "a form without the field removes nothing")
}
