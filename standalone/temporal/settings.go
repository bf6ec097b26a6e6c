// Package temporal runs a Temporal server for one machine, persisted in Postgres, as a child process: one that hangs
// can be killed and started again (see Probe).
package temporal

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/mathub/webhooks/standalone/supervise"
)

// StopSignal asks the server to stop in order.
const StopSignal = syscall.SIGTERM

// Subcommand makes the standalone program the Temporal server.
const Subcommand = "temporal-server"

// DefaultHistoryShards is what a new cluster gets: each shard writes by itself, one transaction at a time, so that it takes several to keep a
// machine's cores and its disk busy; each also costs some memory and idle work.
const DefaultHistoryShards = 16

const (
	// Namespace is where everything of the product runs.
	Namespace = "default"
	// Retention is how long closed workflows stay visible.
	Retention = 7 * 24 * time.Hour
	// Database is the one of the server's two databases in Postgres that holds all but what VisibilityDatabase does. The
	// server makes their tables by itself.
	Database = "temporal"
	// VisibilityDatabase is the one for lists of workflows.
	VisibilityDatabase = "temporal_visibility"
)

// Settings are all that a server needs to know. They travel to the child as JSON in its environment, where other users
// cannot read them.
type Settings struct {
	// PostgresURL names the Postgres server and its user; the databases are Database and VisibilityDatabase.
	PostgresURL string
	// PostgresHosts are the servers of PostgresURL where there are several, each as host:port: the one that takes writes is used.
	PostgresHosts []string
	// Host is the IP address of this process where the server is several processes, each with some of the services, which find
	// each other by Temporal's own membership. They listen there, on Temporal's usual ports. Empty: all services are in this
	// process, on 127.0.0.1.
	Host string
	// Services are those of this process, by Temporal's names, where Host is set.
	Services []string
	// FrontendAddr is where clients find the frontends where Host is set, such as a load balancer's host and port.
	FrontendAddr string
	// SchemaOnly makes the tables, or brings them up to date, and ends. Where Host is set, nothing else does.
	SchemaOnly bool
	// Port of the frontend on 127.0.0.1, where Host is empty.
	Port int
	// ServicePorts are those of the other services there, see FindServicePorts; free ones when nil.
	ServicePorts []int
	// HistoryShards is how many shards a new cluster gets, DefaultHistoryShards when 0. It is fixed with the first
	// start: Temporal keeps it in its database and ignores what is said later.
	HistoryShards int32
	// StockConfig leaves out what this package tunes, for comparisons: Temporal's own limits, pools and caches.
	StockConfig bool
	// DynamicConfig goes over this package's, by Temporal's keys.
	DynamicConfig map[string]any
	// FaultRate is the probability, from 0 to 1, with which each kind of fault that Temporal's own fault injector
	// knows by default befalls each call to persistence; 0: none. For tests.
	FaultRate float64
	// MetricsAddr, such as 127.0.0.1:9090, serves Prometheus metrics at /metrics; empty: none.
	MetricsAddr string
	// ProfilePort serves net/http/pprof on loopback; 0: none.
	ProfilePort int
	// LogLevel is debug, info, warn (when empty) or error.
	LogLevel string
}

// settingsVariable carries the settings to the child.
const settingsVariable = "MATHUB_STANDALONE_TEMPORAL"

// Addr is where clients find the server.
func (s Settings) Addr() string {
	if s.IsMember() {
		return s.FrontendAddr
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))
}

// IsMember says whether the server is several processes, of which this is one.
func (s Settings) IsMember() bool { return s.Host != "" }

// Command is the server as a child process: the standalone program; this one, which must call server.RunChild then, when it is
// empty. log gets its output.
func (s Settings) Command(log *os.File, program string) (*exec.Cmd, error) {
	encoded, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("Temporal's settings: %w", err) //nolint:staticcheck // a name
	}
	cmd, err := supervise.Program(log, program, Subcommand)
	if err != nil {
		return nil, err
	}
	cmd.Env = supervise.WithDefaults(append(os.Environ(), settingsVariable+"="+string(encoded)), s.Collector())
	return cmd, nil
}

// Collector is how the server's garbage collector works: seldom, as long as there is memory. What it holds for good is some
// 60 MiB, so that Go's own setting, to collect when that has doubled, spends 15 % of the server's time.
func (s Settings) Collector() map[string]string {
	if s.StockConfig {
		return nil
	}
	return map[string]string{"GOGC": "150", "GOMEMLIMIT": "640MiB"}
}

// ChildSettings are the settings that Command gave to this process.
func ChildSettings() (Settings, error) {
	encoded, ok := os.LookupEnv(settingsVariable)
	if !ok {
		return Settings{}, errors.New("this command is started by the standalone program only")
	}
	var s Settings
	err := json.Unmarshal([]byte(encoded), &s)
	return s, err
}
