package operators_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/testutil/fuzzworld"
)

// newFuzzPages are the pages of a World.
func newFuzzPages(t testing.TB) *fuzzworld.Site {
	t.Helper()
	b := newBed(t)
	receiver := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(receiver.Close)
	site := fuzzworld.NewSite(t, fuzzworld.NewWorld(t, b.pool, b.cfg.Bots.Keyset, receiver.URL), b.url, "/ops/", func(*http.Request) {})
	require.Greater(t, len(site.Actions), 20, "%v", site.Actions)
	return site
}

// FuzzPages fuzzes all forms and pages of the operators.
func FuzzPages(f *testing.F) { newFuzzPages(f).Fuzz(f) }

// TestNumberedInputs is FuzzPages' long form: see fuzzing.Numbered.
func TestNumberedInputs(t *testing.T) {
	t.Parallel()
	fuzzworld.Numbered(t, "FuzzPages", 200, newFuzzPages)
}
