package temporal

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	"go.temporal.io/server/temporal"

	"github.com/mathub/webhooks/standalone/freeport"
)

// The four services, for Settings.Services.
const (
	Frontend = string(primitives.FrontendService)
	History  = string(primitives.HistoryService)
	Matching = string(primitives.MatchingService)
	Worker   = string(primitives.WorkerService)
)

// FrontendPort is where a frontend listens whose server is several processes.
const FrontendPort = 7233

// usualPorts are those of Temporal's own images, for gRPC and for membership.
var usualPorts = map[string]config.RPC{
	Frontend: {GRPCPort: FrontendPort, MembershipPort: 6933},
	History:  {GRPCPort: 7234, MembershipPort: 6934},
	Matching: {GRPCPort: 7235, MembershipPort: 6935},
	Worker:   {GRPCPort: 7239, MembershipPort: 6939},
}

// membership says which services run in this process and how they find the others.
func (s Settings) membership(cfg *config.Config) []temporal.ServerOption {
	if s.isMember() {
		return []temporal.ServerOption{temporal.ForServices(s.Services)}
	}
	hosts := map[primitives.ServiceName]static.Hosts{}
	for name, service := range cfg.Services {
		hosts[primitives.ServiceName(name)] = static.SingleLocalHost(net.JoinHostPort("127.0.0.1", strconv.Itoa(service.RPC.GRPCPort)))
	}
	return []temporal.ServerOption{
		temporal.ForServices(temporal.DefaultServices),
		// One process has no members to gossip with; a restart then neither waits for nor believes in its forerunner.
		temporal.WithStaticHosts(hosts),
	}
}

// frontend is where this process's own frontend listens; "" where it has none.
func (s Settings) frontend() string {
	switch {
	case !s.isMember():
		return s.Addr()
	case slices.Contains(s.Services, Frontend):
		return net.JoinHostPort(s.Host, strconv.Itoa(FrontendPort))
	default:
		return ""
	}
}

// publicClient is how the services find a frontend. Several processes ask the membership.
func (s Settings) publicClient() config.PublicClient {
	if s.isMember() {
		return config.PublicClient{}
	}
	return config.PublicClient{HostPort: s.Addr()}
}

// services are where all four listen. Those of one process have free ports, of which others know only the frontend's.
func (s Settings) services() (map[string]config.Service, error) {
	services := map[string]config.Service{}
	if s.isMember() {
		for name, rpc := range usualPorts {
			rpc.BindOnIP = s.Host
			rpc.KeepAliveServerConfig, rpc.ClientConnectionConfig = keepAlive()
			services[name] = config.Service{RPC: rpc}
		}
		for _, name := range s.Services {
			if _, ok := services[name]; !ok {
				return nil, fmt.Errorf("Temporal has no service %q: give frontend, history, matching or worker", name) //nolint:staticcheck // a name
			}
		}
		return services, nil
	}
	ports := s.ServicePorts
	if ports == nil {
		var err error
		if ports, err = FindServicePorts(); err != nil {
			return nil, err
		}
	}
	for _, name := range temporal.DefaultServices {
		port := s.Port
		if name != Frontend {
			port, ports = ports[0], ports[1:]
		}
		services[name] = config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: "127.0.0.1"}}
	}
	return services, nil
}

// keepAlive has the services notice within 15 s that a host is gone which does not say so. By default they notice nothing: requests go on
// into a connection on which nobody answers, and into the old one when the host is back.
func keepAlive() (config.KeepAliveServerConfig, config.ClientConnectionConfig) {
	every, limit, least, idleToo := 10*time.Second, 5*time.Second, 5*time.Second, true
	policy := &config.KeepAliveServerEnforcementPolicy{MinTime: &least, PermitWithoutStream: &idleToo}
	client := &config.KeepAliveClientParameters{Time: &every, Timeout: &limit, PermitWithoutStream: &idleToo}
	return config.KeepAliveServerConfig{KeepAliveEnforcementPolicy: policy}, config.ClientConnectionConfig{KeepAliveClientConfig: client}
}

// FindServicePorts finds free ports for the services beside the frontend.
func FindServicePorts() ([]int, error) {
	ports := make([]int, len(temporal.DefaultServices)-1)
	for i := range ports {
		var err error
		if ports[i], err = freeport.Find(); err != nil {
			return nil, err
		}
	}
	return ports, nil
}
