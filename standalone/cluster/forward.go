package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Forward lets programs of this machine reach an address of the cluster's network: it listens on local, which is on loopback, until
// ctx ends. It is for people; tests dial Outside.
func (c *Cluster) Forward(ctx context.Context, local, to string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp4", local)
	if err != nil {
		return fmt.Errorf("forward %s: %w", local, err)
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // it was closed
			}
			go c.connect(ctx, conn, to)
		}
	}()
	return nil
}

// connect copies between a connection and a new one until both directions have ended.
func (c *Cluster) connect(ctx context.Context, from net.Conn, address string) {
	defer from.Close() //nolint:errcheck // nothing to be lost
	dialing, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	to, err := c.Outside.DialContext(dialing, "tcp", address)
	if err != nil {
		return
	}
	defer to.Close() //nolint:errcheck // nothing to be lost
	defer context.AfterFunc(ctx, func() {
		_ = from.Close()
		_ = to.Close()
	})()
	var both sync.WaitGroup
	for _, pair := range [][2]net.Conn{{from, to}, {to, from}} {
		both.Go(func() {
			_, _ = io.Copy(pair[1], pair[0])
			if half, ok := pair[1].(*net.TCPConn); ok {
				_ = half.CloseWrite()
			}
		})
	}
	both.Wait()
}
