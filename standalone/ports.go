package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/mathub/webhooks/standalone/freeport"
)

// checkPorts says early, and before anything runs, which port is taken.
func (s *stack) checkPorts() error {
	if err := checkAddr("the API", "MATHUB_ADDR", s.Addr); err != nil {
		return err
	}
	if s.InternalAddr != "" {
		if err := checkAddr("the service API", "MATHUB_INTERNAL_ADDR", s.InternalAddr); err != nil {
			return err
		}
	}
	for _, wanted := range []struct {
		what, variable string
		port           int
	}{
		{"the Temporal server", "MATHUB_TEMPORAL_PORT", s.TemporalPort},
		{"the Temporal Web UI", "MATHUB_UI_PORT", s.UIPort},
		{"Postgres", "MATHUB_POSTGRES_PORT", s.PostgresPort},
	} {
		if wanted.port == 0 && wanted.variable == "MATHUB_POSTGRES_PORT" {
			continue
		}
		if err := freeport.Check(wanted.port); err != nil {
			return fmt.Errorf("%s cannot listen on port %d (%w): stop the program that does, or choose another port, such as %s=%s", wanted.what, wanted.port, cause(err), wanted.variable, neighbour(strconv.Itoa(wanted.port)))
		}
	}
	return nil
}

func checkAddr(what, variable, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%s is %q; must be host:port, such as 127.0.0.1:8080", variable, addr)
	}
	listener, err := net.Listen("tcp", addr) //nolint:noctx // it does not wait
	if err != nil {
		return fmt.Errorf("%s cannot listen on %s (%w): stop the program that does, or choose another address, such as %s=%s", what, addr, cause(err), variable, net.JoinHostPort(host, neighbour(port)))
	}
	return listener.Close()
}

// neighbour is a port to propose in a message.
func neighbour(port string) string {
	number, err := strconv.Atoi(port)
	if err != nil || number <= 0 || number >= 65535 {
		return "8081"
	}
	return strconv.Itoa(number + 1)
}

// cause is what the system said, without the call that it said it to.
func cause(err error) error {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number
	}
	return err
}
