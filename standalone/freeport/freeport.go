// Package freeport finds loopback ports to listen on.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The range lies below those from which Linux and macOS take the ports of outgoing connections (32768 and 49152), so
// that a port stays free between two starts, and above those of common services.
const first, last = 20000, 32000

// Find returns a port of 127.0.0.1 on which nothing listens. Another process may take it first: who finds it taken
// asks for another.
func Find() (int, error) {
	for range 1000 {
		port := first + rand.IntN(last-first)
		if Check(port) == nil {
			return port, nil
		}
	}
	return 0, errors.New("no free port between 20000 and 32000 on 127.0.0.1")
}

// Check returns an error when something listens on the port of 127.0.0.1 already.
func Check(port int) error {
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))) //nolint:noctx // it does not wait
	if err != nil {
		return fmt.Errorf("port %d: %w", port, err)
	}
	return listener.Close()
}
