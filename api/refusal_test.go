package api_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/api"
	"github.com/mathub/webhooks/internal/web"
)

// TestARefusalIsSmall, whatever was sent: it is not charged, and takes no room.
func TestARefusalIsSmall(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	hook := a.hook(key)
	many := func(write func(i int) string, n int, between string) string {
		parts := make([]string, n)
		for i := range parts {
			parts[i] = write(i)
		}
		return strings.Join(parts, between)
	}
	parameters := "?" + many(func(i int) string { return fmt.Sprintf("%x", i) }, 6000, "&")
	long := strings.Repeat("x", 25_000)
	badBots := `["` + many(func(int) string { return "!" }, 1000, `","`) + `"]`
	for _, c := range []struct{ method, path, token, body string }{
		{"GET", webhooksPath + "/" + hook + "/deliveries" + parameters, key, ""},
		{"GET", pollPath + parameters, key, ""},
		{"GET", pollPath + "?" + long, key, ""},
		{"GET", pollPath + "?types=" + many(func(int) string { return "x" }, 100, ","), key, ""},
		{"GET", webhooksPath + "/" + long, key, ""},
		{"GET", "/" + long, key, ""},
		{"POST", webhooksPath, key, `{` + many(func(i int) string { return fmt.Sprintf(`"%x":1`, i) }, 5000, ",") + `}`},
		{"POST", webhooksPath, key, `{"` + long + `":1}`},
		{"POST", webhooksPath, key, `{"url":"https://example.com","events":["` + many(func(int) string { return "x" }, 100, `","`) + `"]}`},
		{"POST", eventsPath, serviceToken, `{"event":"mention","data":{},"botIds":` + badBots + `}`},
		{"POST", eventsPath, serviceToken, `{"event":"mention","data":{"` + long + `":1,"` + long + `":1}}`},
		{"POST", eventsPath + "/batch", serviceToken, `{"events":[` + many(func(int) string { return `{"event":"mention","data":{},"botIds":` + badBots + `}` }, 100, ",") + `]}`},
	} {
		var body any
		if c.body != "" {
			body = c.body
		}
		got := a.do(c.method, c.path, c.token, body)
		require.Contains(t, []int{http.StatusBadRequest, http.StatusNotFound, http.StatusUnprocessableEntity}, got.status, "%s %.60s: %.200s", c.method, c.path, got.body)
		require.Less(t, len(got.body), 10<<10, "%s %.60s %.60s", c.method, c.path, c.body)
	}
}

// TestAQueryIsText: what Postgres would not take names its field.
func TestAQueryIsText(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, func(*api.Config) {})
	_, key := a.bot()
	hook := a.hook(key)
	for _, path := range []string{"/api/bot/v1/deliveries?error=%ff", webhooksPath + "/" + hook + "/deliveries?error=%ff", webhooksPath + "/" + hook + "/missed?error=a%00", "/api/bot/v1/deliveries?eventId=%ff"} {
		got := a.do("GET", path, key, nil)
		require.Equal(t, http.StatusUnprocessableEntity, got.status, path)
		require.Len(t, got.fields(t), 1, path)
	}
}

// TestWhoHasEndedTheirSideGetsNoSuccess, but reads on: it looks like one that has left, and what it asked for was not done.
func TestWhoHasEndedTheirSideGetsNoSuccess(t *testing.T) {
	t.Parallel()
	a := newAPI(t, nil, nil)
	_, key := a.bot()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(a.url, "http://"))
	require.NoError(t, err)
	_, err = fmt.Fprintf(conn, "GET %s?wait=30s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n", pollPath, key)
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	got, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.Equal(t, web.HungUp, got.StatusCode)
	require.NoError(t, got.Body.Close())
	require.NoError(t, conn.Close())
}
