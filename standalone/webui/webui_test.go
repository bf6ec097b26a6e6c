package webui

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestThePagesOfStrangersCannotUseTheWebUI: it has no passwords, so that the Host is all that tells a page of a stranger,
// whose name has been made to resolve to 127.0.0.1, from the operator.
func TestThePagesOfStrangersCannotUseTheWebUI(t *testing.T) {
	t.Parallel()
	handler, err := Settings{TemporalAddr: "127.0.0.1:1", Hosts: []string{"ui.example.org"}}.handler()
	require.NoError(t, err)
	for _, path := range []string{"/", "/namespaces/default/workflows", "/api/v1/settings", "/healthz", "/_app/version.json", "/render?content=x"} {
		for host, served := range map[string]bool{
			"localhost:8233": true, "127.0.0.1:8233": true, "[::1]:8233": true, "ui.example.org": true,
			"evil.example": false, "evil.example:8233": false, "127.0.0.1.evil.example:8233": false, "": false,
		} {
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
			request.Host = host
			answer := httptest.NewRecorder()
			handler.ServeHTTP(answer, request)
			if served {
				require.Equal(t, http.StatusOK, answer.Code, "%s of %q", path, host)
			} else {
				require.Equal(t, http.StatusMisdirectedRequest, answer.Code, "%s of %q", path, host)
				require.NotContains(t, answer.Body.String(), "emporal")
			}
		}
	}
	// A page of another site cannot have it change anything by the true name either.
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/namespaces/default/workflows/x", http.NoBody)
	request.Host = "127.0.0.1:8233"
	request.Header.Set("Sec-Fetch-Site", "cross-site")
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	require.Equal(t, http.StatusForbidden, answer.Code)
}
