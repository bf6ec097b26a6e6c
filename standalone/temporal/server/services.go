package server

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
	engine "go.temporal.io/server/temporal"

	"github.com/mathub/webhooks/standalone/temporal"
)

// usualPorts are those of Temporal's own images, for gRPC and for membership.
var usualPorts = map[string]config.RPC{
	temporal.Frontend: {GRPCPort: temporal.FrontendPort, MembershipPort: 6933},
	temporal.History:  {GRPCPort: 7234, MembershipPort: 6934},
	temporal.Matching: {GRPCPort: 7235, MembershipPort: 6935},
	temporal.Worker:   {GRPCPort: 7239, MembershipPort: 6939},
}

// membership says which services run in this process and how they find the others.
func (p process) membership(cfg *config.Config) []engine.ServerOption {
	if p.IsMember() {
		return []engine.ServerOption{engine.ForServices(p.Services)}
	}
	hosts := map[primitives.ServiceName]static.Hosts{}
	for name, service := range cfg.Services {
		hosts[primitives.ServiceName(name)] = static.SingleLocalHost(net.JoinHostPort("127.0.0.1", strconv.Itoa(service.RPC.GRPCPort)))
	}
	return []engine.ServerOption{
		engine.ForServices(engine.DefaultServices),
		// One process has no members to gossip with; a restart then neither waits for nor believes in its forerunner.
		engine.WithStaticHosts(hosts),
	}
}

// frontend is where this process's own frontend listens; "" where it has none.
func (p process) frontend() string {
	switch {
	case !p.IsMember():
		return p.Addr()
	case slices.Contains(p.Services, temporal.Frontend):
		return net.JoinHostPort(p.Host, strconv.Itoa(temporal.FrontendPort))
	default:
		return ""
	}
}

// publicClient is how the services find a frontend. Several processes ask the membership.
func (p process) publicClient() config.PublicClient {
	if p.IsMember() {
		return config.PublicClient{}
	}
	return config.PublicClient{HostPort: p.Addr()}
}

// services are where all four listen. Those of one process have free ports, of which others know only the frontend's.
func (p process) services() (map[string]config.Service, error) {
	services := map[string]config.Service{}
	if p.IsMember() {
		for name, rpc := range usualPorts {
			rpc.BindOnIP = p.Host
			rpc.KeepAliveServerConfig, rpc.ClientConnectionConfig = keepAlive()
			services[name] = config.Service{RPC: rpc}
		}
		for _, name := range p.Services {
			if _, ok := services[name]; !ok {
				return nil, fmt.Errorf("Temporal has no service %q: give frontend, history, matching or worker", name) //nolint:staticcheck // a name
			}
		}
		return services, nil
	}
	ports := p.ServicePorts
	if ports == nil {
		var err error
		if ports, err = temporal.FindServicePorts(); err != nil {
			return nil, err
		}
	}
	for _, name := range engine.DefaultServices {
		port := p.Port
		if name != temporal.Frontend {
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
