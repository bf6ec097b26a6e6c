package testkit

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
)

// Attached is a product that runs already, such as a cluster.
type Attached struct {
	API *API
	// DatabaseURL is how a superuser reaches the product's database, and TemporalAddr the host and port of Temporal's frontend.
	DatabaseURL, TemporalAddr string
	// Dial connects to both.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Logs is the folder of its logs; their ends are shown when the test failed.
	Logs string
}

func (a *Attached) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return a.Dial(ctx, "tcp", address)
	})}
}

// Attach is a stack of what runs already: its API, database and Temporal. It has no Servers and no Apps.
func Attach(t testing.TB, running Attached) *Stack {
	t.Helper()
	s := &Stack{dir: running.Logs, databaseURL: running.DatabaseURL, attached: &running, serviceToken: running.API.ServiceToken, env: map[string]string{}}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.logTails())
		}
	})
	s.connect(t)
	return s
}
