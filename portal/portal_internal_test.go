package portal

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestEachRequestHasADeadline: be it a page or an action.
func TestEachRequestHasADeadline(t *testing.T) {
	t.Parallel()
	p, err := newPortal(Config{Options: Options{Off: true}})
	require.NoError(t, err)
	for method, register := range map[string]func(string, access, handle){"GET": p.get, "POST": p.post} {
		asked := time.Now()
		register("/portal/test/"+method, anybody, func(_ http.ResponseWriter, r *http.Request, _ *session) error {
			until, bounded := r.Context().Deadline()
			require.True(t, bounded, method)
			require.WithinRange(t, until, asked, time.Now().Add(requestTimeout))
			return nil
		})
		answer := httptest.NewRecorder()
		p.mux.ServeHTTP(answer, httptest.NewRequest(method, "/portal/test/"+method, nil))
		require.Equal(t, http.StatusOK, answer.Code)
	}
}
