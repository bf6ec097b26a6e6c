// Package freeport finds loopback ports to listen on.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"

	"github.com/mathub/webhooks/webhook"
)

// The range lies below those from which Linux and macOS take the ports of outgoing connections (32768 and 49152), so
// that a port stays free between two starts, and above those of common services.
const first, last = 20000, 32000

// reserved are the UDP sockets that say which TCP ports this process has found. They are held until it ends, as a server
// may need seconds before it listens, and may be stopped and started again.
var reserved struct {
	sync.Mutex
	sockets []net.PacketConn
}

// Find returns a port of 127.0.0.1 on which nothing listens and that no other call of Find, of any process that still
// runs, has returned.
func Find() (int, error) {
	for range 1000 {
		port := first + rand.IntN(last-first)
		if !(webhook.AddressPolicy{}).PermitsPort(uint16(port)) {
			continue // a receiver could not be there
		}
		socket, err := net.ListenPacket("udp4", addr(port)) //nolint:noctx // it does not wait
		if err != nil {
			continue
		}
		if err = Check(port); err != nil {
			_ = socket.Close()
			continue
		}
		reserved.Lock()
		defer reserved.Unlock()
		reserved.sockets = append(reserved.sockets, socket)
		return port, nil
	}
	return 0, errors.New("no free port between 20000 and 32000 on 127.0.0.1")
}

// Check returns an error when something listens on the port of 127.0.0.1 already.
func Check(port int) error {
	listener, err := net.Listen("tcp", addr(port)) //nolint:noctx // it does not wait
	if err != nil {
		return fmt.Errorf("port %d: %w", port, err)
	}
	return listener.Close()
}

func addr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
