package settings

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/webhook"
)

// Egress says where deliveries may go.
type Egress struct {
	URLs
	EgressDeny  []egress.Destination `env:"MATHUB_EGRESS_DENY" help:"Destinations that webhooks must not point to, even in allowed networks: addresses, networks or names, with or without a port; :8080 is that port of this machine. This process's listeners, Postgres and Temporal are always denied."`
	EgressProxy string               `env:"MATHUB_EGRESS_PROXY" help:"The proxy that deliveries go through, for fixed addresses: http://user:password@host:port (CONNECT), https:// or socks5://. Empty: none. HTTP_PROXY is not used."`
	// EgressClientCert and EgressClientKey are files, so that they can be replaced while processes run.
	EgressClientCert string   `env:"MATHUB_EGRESS_CLIENT_CERT" help:"A PEM file with the client certificate, and its chain, for receivers that ask for one. Read again when it changes. Empty: none."`
	EgressClientKey  string   `env:"MATHUB_EGRESS_CLIENT_KEY" help:"A PEM file with the client certificate's key. Empty: it is in MATHUB_EGRESS_CLIENT_CERT."`
	EgressCheck      []string `env:"MATHUB_EGRESS_CHECK" default:"${checkhosts}" help:"Hosts that test outbound access, by DNS and TCP port 443, when a receiver's name or network fails. Empty: only other receivers."`
}

// EgressOptions are how deliveries are sent.
func (p Process) EgressOptions() (o egress.Options, err error) {
	o = egress.Options{
		Allow: p.EgressAllow, AllowHTTP: p.EgressAllowHTTP, AllowPorts: p.EgressAllowPorts, NAT64: p.EgressNAT64,
	}
	if o.CheckHosts, err = egress.ParseCheckHosts(p.EgressCheck); err != nil {
		return o, fmt.Errorf("MATHUB_EGRESS_CHECK: %w", err)
	}
	if err := webhook.CheckNAT64(o.NAT64); err != nil {
		return o, fmt.Errorf("MATHUB_EGRESS_NAT64: %w", err)
	}
	if o.Proxy, err = p.proxy(); err != nil {
		return o, err
	}
	if o.ClientCertificate, err = p.clientCertificate(); err != nil {
		return o, err
	}
	o.Deny, err = p.ownServices()
	return o, err
}

func (f Egress) proxy() (*egress.Proxy, error) {
	if f.EgressProxy == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	proxy, err := egress.ParseProxy(f.EgressProxy)
	if err != nil {
		return nil, fmt.Errorf("MATHUB_EGRESS_PROXY %w", err) // without its value, which may hold a password
	}
	return proxy, nil
}

// clientCertificate reads it in processes that deliver: others need not have the files.
func (p Process) clientCertificate() (*egress.ClientCertificate, error) {
	switch {
	case p.EgressClientCert == "" && p.EgressClientKey != "":
		return nil, errors.New("MATHUB_EGRESS_CLIENT_KEY is set without MATHUB_EGRESS_CLIENT_CERT; set both, or only MATHUB_EGRESS_CLIENT_CERT if its file has the key too")
	case p.EgressClientCert == "" || p.Worker == nil:
		return nil, nil //nolint:nilnil // there is none
	}
	certificate, err := egress.LoadClientCertificate(p.EgressClientCert, p.EgressClientKey, p.Logger())
	if err != nil {
		return nil, fmt.Errorf("MATHUB_EGRESS_CLIENT_CERT or MATHUB_EGRESS_CLIENT_KEY: %w; must be PEM files with a certificate and its unencrypted key", err)
	}
	return certificate, nil
}

// ownServices are where no webhook may lead, even if the network it is in is allowed: what the settings name of this
// process, and of others that share its environment.
func (p Process) ownServices() ([]egress.Destination, error) {
	temporal, err := Temporal()
	if err != nil {
		return nil, err
	}
	parts := p.parts()
	places := map[string][]string{
		"MATHUB_ADDR":          {parts.Addr},
		"MATHUB_INTERNAL_ADDR": {parts.InternalAddr},
		"MATHUB_ADMIN_ADDR":    {p.AdminAddr},
		"MATHUB_DATABASE_URL":  postgresPlaces(p.DatabaseURL),
		"TEMPORAL_ADDRESS":     {temporal.HostPort[strings.LastIndexByte(temporal.HostPort, '/')+1:]}, // it may begin with dns:///
		"MATHUB_TEMPORAL_UI":   {placeOf(parts.TemporalUI)},
	}
	for _, collector := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		places[collector] = []string{placeOf(os.Getenv(collector))}
	}
	if proxy, err := p.proxy(); err != nil {
		return nil, err
	} else if proxy != nil {
		places["MATHUB_EGRESS_PROXY"] = []string{proxy.Address()}
	}
	denied := slices.Clone(p.EgressDeny)
	for setting, of := range places {
		for _, place := range of {
			if place == "" || strings.Contains(place, "%") || strings.HasSuffix(place, ":0") {
				continue // what has a zone is never connected to; port 0 is any free one, as tests ask for
			}
			var d egress.Destination
			if err := d.UnmarshalText([]byte(place)); err != nil {
				return nil, fmt.Errorf("%s: %w", setting, err)
			}
			denied = append(denied, d)
		}
	}
	return denied, nil
}

// postgresPlaces are the hosts and ports of a database URL, which may name several. A server with a Unix socket is on this
// machine, and may have that port there as well.
func postgresPlaces(databaseURL string) (places []string) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil // said where it is opened
	}
	first := &pgconn.FallbackConfig{Host: config.ConnConfig.Host, Port: config.ConnConfig.Port}
	for _, server := range append([]*pgconn.FallbackConfig{first}, config.ConnConfig.Fallbacks...) {
		host := server.Host
		if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") {
			host = ""
		}
		places = append(places, net.JoinHostPort(host, strconv.Itoa(int(server.Port))))
	}
	slices.Sort(places)
	return slices.Compact(places)
}

// placeOf is the host and port of a URL; "" where the text is not a URL.
func placeOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return strings.TrimSuffix(net.JoinHostPort(u.Hostname(), port), ":")
}
