package cluster

import (
	"fmt"
	"net/netip"
)

// Layout is how many hosts there are of each kind, beside the two of Postgres and the load balancer's.
type Layout struct {
	APIs    int `name:"apis" default:"2" help:"Hosts of the API."`
	Workers int `default:"3" help:"Hosts of workers."`
	// Frontends and the next are hosts of one of Temporal's services each.
	Frontends       int   `default:"1" help:"Hosts of Temporal's frontend."`
	Histories       int   `default:"2" help:"Hosts of Temporal's history service."`
	Matchings       int   `default:"1" help:"Hosts of Temporal's matching service."`
	TemporalWorkers int   `default:"1" help:"Hosts of Temporal's own worker service."`
	HistoryShards   int32 `default:"64" help:"History shards, as docker-compose.yml has them."`
}

// Usual is the layout of `standalone cluster`.
var Usual = Layout{APIs: 2, Workers: 3, Frontends: 1, Histories: 2, Matchings: 1, TemporalWorkers: 1, HistoryShards: 64}

// most is how many hosts there can be of a kind, as each kind has ten addresses.
const most = 10

func (l Layout) check() error {
	for _, kind := range []struct {
		name string
		many int
	}{
		{"apis", l.APIs},
		{"workers", l.Workers},
		{"frontends", l.Frontends},
		{"histories", l.Histories},
		{"matchings", l.Matchings},
		{"temporal-workers", l.TemporalWorkers},
	} {
		if kind.many < 1 || kind.many > most {
			return fmt.Errorf("%s: a cluster has 1 to %d of them, not %d", kind.name, most, kind.many)
		}
	}
	if l.HistoryShards < 1 || l.HistoryShards > 16384 {
		return fmt.Errorf("history-shards: 1 to 16384, not %d", l.HistoryShards)
	}
	return nil
}

// The cluster's network. Nothing outside of this process knows of it, so its addresses cannot collide.
var (
	network = netip.MustParsePrefix("10.44.0.0/16")
	// outside are the addresses of those who are no part of the cluster: receivers, the backend, operators.
	outside        = netip.MustParsePrefix("10.44.1.0/24")
	outsideAddress = netip.MustParseAddr("10.44.1.1")
	balancer       = netip.MustParseAddr("10.44.0.2")
)

// The kinds of hosts, by the address before their first: each has the ten after it.
const (
	apiHosts            = 10
	workerHosts         = 20
	frontendHosts       = 30
	historyHosts        = 40
	matchingHosts       = 50
	temporalWorkerHosts = 60
	postgresHosts       = 70
)

// address is that of a kind's i-th host, from 1.
func address(kind, i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 44, 0, byte(kind + i)})
}

// Ports, as in docker-compose.yml.
const (
	apiPort      = 8080
	servicePort  = 8081
	adminPort    = 6060
	temporalPort = 7233
	postgresPort = 5432
)
