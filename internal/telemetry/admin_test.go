package telemetry_test

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/telemetry"
	"github.com/mathub/webhooks/internal/telemetry/instrument"
)

func TestMetricsAndProfilesAreServedToOperators(t *testing.T) {
	t.Parallel()
	metrics, err := telemetry.NewMetrics("1.2.3", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	instrument.Counter(metrics.Meter(), "mathub_examples", "What the test counted.").Add(t.Context(), 3)
	body := map[string]string{}
	for path, status := range map[string]int{
		"/metrics": http.StatusOK, "/debug/pprof/": http.StatusOK, "/debug/pprof/heap": http.StatusOK,
		"/": http.StatusNotFound, "/api/bot/v1/webhooks": http.StatusNotFound,
	} {
		answer := httptest.NewRecorder()
		telemetry.Admin(metrics).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		require.Equal(t, status, answer.Code, path)
		body[path] = answer.Body.String()
	}
	require.Contains(t, body["/metrics"], "# HELP mathub_examples_total What the test counted.\n")
	require.Contains(t, body["/metrics"], "\nmathub_examples_total 3\n")
	require.Regexp(t, `mathub_build_info\{goversion="go1\.\d+.*",version="1\.2\.3"\} 1`, body["/metrics"])
	require.Contains(t, body["/metrics"], "\ngo_goroutines ")
}
