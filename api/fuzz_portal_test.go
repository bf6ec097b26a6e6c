package api_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/testutil/fuzzworld"
)

// newFuzzPortal is the portal of a fuzzWorld, as who manages its bot sees it.
func newFuzzPortal(t testing.TB) *fuzzworld.Site {
	t.Helper()
	s := newSystem(t)
	w := fuzzworld.NewWorld(t, s.pool, s.keyset, s.receiver)
	w.Secrets = append(w.Secrets, serviceToken)
	site := fuzzworld.NewSite(t, w, s.url, "/portal/webhooks", func(req *http.Request) {
		s.clock.Advance(time.Minute) // so that no limit of calls is reached
		req.AddCookie(&http.Cookie{Name: "mathub-portal", Value: w.Cookie})
	})
	require.Greater(t, len(site.Actions), 30, "%v", site.Actions)
	return site
}

// FuzzPortal fuzzes all forms and pages of the portal that its own pages lead to.
func FuzzPortal(f *testing.F) { newFuzzPortal(f).Fuzz(f) }

// TestNumberedInputsOfThePortal is FuzzPortal's long form, as TestNumberedInputs is of the API's.
func TestNumberedInputsOfThePortal(t *testing.T) {
	t.Parallel()
	fuzzworld.Numbered(t, "FuzzPortal", 300, newFuzzPortal)
}
