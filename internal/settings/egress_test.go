package settings

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPostgresPlaces(t *testing.T) {
	require.Equal(t, []string{":5433"}, postgresPlaces("postgres://127.0.0.1:5433/mathub?host=/var/run/postgresql"), "a socket is this machine's")
	require.Empty(t, postgresPlaces("not a URL"))
	require.Equal(t, []string{"127.0.0.1:5432"}, postgresPlaces("postgres://u@127.0.0.1/x"))
}

// A process that delivers nothing need not have the files.
func TestClientCertificateIsReadWhereDeliveriesAreMade(t *testing.T) {
	t.Setenv("TEMPORAL_CONFIG_FILE", "")
	p := Process{API: &API{}}
	p.EgressClientCert = "/nowhere/tls.crt"
	_, err := p.EgressOptions()
	require.NoError(t, err)
	p.Worker = &Worker{}
	_, err = p.EgressOptions()
	require.ErrorContains(t, err, "MATHUB_EGRESS_CLIENT_CERT or MATHUB_EGRESS_CLIENT_KEY: stat /nowhere/tls.crt")
	p.EgressClientCert, p.EgressClientKey = "", "/nowhere/tls.key"
	_, err = p.EgressOptions()
	require.ErrorContains(t, err, "MATHUB_EGRESS_CLIENT_KEY is set without MATHUB_EGRESS_CLIENT_CERT")
}

func TestProxyIsCheckedAtTheStart(t *testing.T) {
	p := Process{}
	p.EgressProxy = "http://u:hunter2@proxy"
	err := p.Check()
	require.ErrorContains(t, err, "MATHUB_EGRESS_PROXY must name the proxy's port")
	require.NotContains(t, err.Error(), "hunter2")
}
