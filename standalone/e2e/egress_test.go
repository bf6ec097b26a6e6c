package e2e_test

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

// API and worker apart, both of loopback, which is allowed: no webhook leads to the API, to an admin port, to Postgres or
// to Temporal, by whatever address of this machine.
func TestNoWebhookLeadsToOurOwnServices(t *testing.T) {
	t.Parallel()
	ports := make([]int, 3)
	for i := range ports {
		var err error
		ports[i], err = freeport.Find()
		require.NoError(t, err)
	}
	at := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
	api, apiAdmin, workerAdmin := at(ports[0]), at(ports[1]), at(ports[2])
	ui := testkit.NewReceiver(t) // it stands for the Web UI
	uiAddr := strings.TrimPrefix(ui.URL(""), "http://")
	stack := testkit.Start(t, testkit.Options{
		Env: map[string]string{"MATHUB_ADDR": api, "MATHUB_TEMPORAL_UI": ui.URL(""), "MATHUB_RETRY_SCHEDULE": ""},
		Apps: []testkit.App{
			{Args: []string{"api"}, Env: map[string]string{"MATHUB_ADDR": api, "MATHUB_ADMIN_ADDR": apiAdmin}},
			{Args: []string{"worker"}, Env: map[string]string{"MATHUB_ADDR": api, "MATHUB_ADMIN_ADDR": workerAdmin, "MATHUB_EGRESS_DENY": "localhost:" + strings.TrimPrefix(apiAdmin, "127.0.0.1:")}},
		},
	})
	postgres, err := url.Parse(stack.DatabaseURL())
	require.NoError(t, err)
	bot := stack.API().CreateBot(t, "inward")
	for name, place := range map[string]string{
		"API": api, "API's admin port": apiAdmin, "worker's admin port": workerAdmin, "Web UI": uiAddr,
		"Postgres": net.JoinHostPort("127.0.0.1", postgres.Port()), "Temporal": stack.TemporalAddr(),
	} {
		port := netip.MustParseAddrPort(place).Port()
		for _, host := range []string{"127.0.0.1", "127.0.0.2", "a.localhost", "[::1]"} {
			hook := bot.CreateWebhook(t, fmt.Sprintf("http://%s:%d/", host, port), "", post)
			d := bot.Test(t, hook.ID)
			require.Equal(t, "blocked: address not allowed", *d.Error, "%s, by %s", name, host)
			require.Nil(t, d.StatusCode)
			bot.Delete(t, hook.ID)
		}
	}
	require.Zero(t, ui.Count())
	other := testkit.NewReceiver(t)
	hook := bot.CreateWebhook(t, strings.Replace(other.URL("/"), "127.0.0.1", "bot.localhost", 1), "", post)
	require.True(t, bot.Test(t, hook.ID).Success, "every other receiver is reached")
}
