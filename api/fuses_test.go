package api_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
)

func TestFusesOverTheAPI(t *testing.T) {
	t.Parallel()
	const path = "/api/internal/v1/fuses"
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	list := func() (fuses []mathub.Fuse) {
		got := a.do("GET", path, serviceToken, nil)
		require.Equal(t, http.StatusOK, got.status)
		got.into(t, &fuses)
		return fuses
	}
	require.Empty(t, list())
	a.execute("INSERT INTO fuses (class, blown_at) VALUES ('dns', '2025-03-20 10:30Z'), ('tls', '2025-03-20 10:31Z')")
	blown := list()
	require.Len(t, blown, 2)
	require.Equal(t, "dns", blown[0].Class)
	require.Equal(t, "2025-03-20T10:30:00Z", blown[0].BlownAt.UTC().Format("2006-01-02T15:04:05Z07:00"))

	for token, status := range map[string]int{key: http.StatusUnauthorized, "": http.StatusUnauthorized, serviceToken: http.StatusNoContent} {
		require.Equal(t, status, a.do("DELETE", path+"/tls", token, nil).status)
	}
	again := a.do("DELETE", path+"/tls", serviceToken, nil)
	require.Equal(t, http.StatusNotFound, again.status)
	require.Equal(t, `The fuse of "tls" is not blown.`, again.fault(t).Detail)
	require.Equal(t, http.StatusBadRequest, a.do("DELETE", path+"/%00", serviceToken, nil).status)
	require.Equal(t, blown[:1], list())
	entry := a.do("GET", "/api/internal/v1/audit", serviceToken, nil)
	require.Contains(t, string(entry.body), `"fuse.reset"`)
}
