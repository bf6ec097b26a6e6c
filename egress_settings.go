package main

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/mathub/webhooks/cli"
	"github.com/mathub/webhooks/egress"
	"github.com/mathub/webhooks/webhook"
)

type egressFlags struct {
	cli.URLFlags
	EgressDeny  []egress.Destination `env:"MATHUB_EGRESS_DENY" help:"Where webhooks never lead, even into allowed networks, beside this process's own listeners, Postgres and Temporal: addresses, networks or names, with a port or, for every port, without; :8080 is that port of this machine."`
	EgressCheck []string             `env:"MATHUB_EGRESS_CHECK" default:"${checkhosts}" help:"Hosts that are asked, by DNS and on TCP port 443, whether outbound access works when a receiver's name or network fails; empty: other receivers only."`
}

// egressOptions are how deliveries are sent.
func egressOptions(common commonFlags, serveAPI *apiFlags) (o egress.Options, err error) {
	o = egress.Options{
		Allow: common.EgressAllow, AllowHTTP: common.EgressAllowHTTP, AllowPorts: common.EgressAllowPorts, NAT64: common.EgressNAT64,
		CheckHosts: common.EgressCheck,
	}
	if err := webhook.CheckNAT64(o.NAT64); err != nil {
		return o, fmt.Errorf("MATHUB_EGRESS_NAT64: %w", err)
	}
	o.Deny, err = ownServices(common, serveAPI)
	return o, err
}

// ownServices are where no webhook may lead, even if the network it is in is allowed: what the settings name of this
// process, and of others that share its environment.
func ownServices(common commonFlags, serveAPI *apiFlags) ([]egress.Destination, error) {
	temporal, err := temporalOptions()
	if err != nil {
		return nil, err
	}
	parts := common.elsewhere
	if serveAPI != nil {
		parts = elsewhereFlags{Addr: serveAPI.Addr, InternalAddr: serveAPI.InternalAddr, TemporalUI: serveAPI.TemporalUI}
	}
	places := map[string][]string{
		"MATHUB_ADDR":          {parts.Addr},
		"MATHUB_INTERNAL_ADDR": {parts.InternalAddr},
		"MATHUB_ADMIN_ADDR":    {common.AdminAddr},
		"MATHUB_DATABASE_URL":  postgresPlaces(common.DatabaseURL),
		"TEMPORAL_ADDRESS":     {temporal.HostPort[strings.LastIndexByte(temporal.HostPort, '/')+1:]}, // it may begin with dns:///
		"MATHUB_TEMPORAL_UI":   {placeOf(parts.TemporalUI)},
	}
	for _, collector := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		places[collector] = []string{placeOf(os.Getenv(collector))}
	}
	denied := slices.Clone(common.EgressDeny)
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

// placeOf is the host and port of a URL; "" of what is none.
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

// refuseDeliveries answers 403 to what workers send. It stands before listeners of ours that a worker may not know of: an
// admin port of another machine, or the API by the address of its proxy.
func refuseDeliveries(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Mathub-Delivery") != "" {
			http.Error(w, "No webhook may lead here.", http.StatusForbidden)
			return
		}
		handler.ServeHTTP(w, r)
	})
}
