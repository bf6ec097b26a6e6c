package api_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
)

func TestProfilesAreServedToOperators(t *testing.T) {
	t.Parallel()
	for path, status := range map[string]int{
		"/debug/pprof/": http.StatusOK, "/debug/pprof/heap": http.StatusOK, "/": http.StatusNotFound, "/api/bot/v1/webhooks": http.StatusNotFound,
	} {
		answer := httptest.NewRecorder()
		api.Admin().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		require.Equal(t, status, answer.Code, path)
	}
}
