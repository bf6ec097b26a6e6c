package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/mathub/webhooks/standalone/freeport"
)

// listener is something that is to listen, and the setting that says where.
type listener struct {
	what, variable string
	host           string // empty where only the port can be chosen: 127.0.0.1
	port           int
}

// checkPorts says early, and before anything runs, which ports are taken, all at once, and which are free instead.
func (s *stack) checkPorts() error {
	listeners, err := s.listeners()
	if err != nil {
		return err
	}
	var taken, instead []string
	proposed := map[int]bool{}
	for _, l := range listeners {
		proposed[l.port] = true
	}
	for _, l := range listeners {
		err := l.check(l.port)
		switch {
		case err == nil:
			continue
		case !errors.Is(err, syscall.EADDRINUSE): // no other port helps
			return fmt.Errorf("%s cannot listen on %s (%w): correct %s", l.what, l.at(l.port), cause(err), l.variable)
		}
		taken = append(taken, fmt.Sprintf("%s cannot listen on %s (%s)", l.what, l.at(l.port), cause(err)))
		instead = append(instead, l.variable+"="+l.setting(l.free(proposed)))
	}
	if len(taken) == 0 {
		return nil
	}
	return fmt.Errorf("%s: stop what does, or start once with others, which are kept: %s make run", strings.Join(taken, ", "), strings.Join(instead, " "))
}

// listeners are what listens on ports that the user may know; Postgres only where its port was asked for.
func (s *stack) listeners() ([]listener, error) {
	all := []listener{
		{"the Temporal server", "MATHUB_TEMPORAL_PORT", "", s.TemporalPort},
		{"the Temporal Web UI", "MATHUB_UI_PORT", "", s.UIPort},
	}
	for _, api := range []struct{ what, variable, addr string }{
		{"the operators' pages", "MATHUB_ADMIN_ADDR", s.AdminAddr}, {"the service API", "MATHUB_INTERNAL_ADDR", s.InternalAddr}, {"the API", "MATHUB_ADDR", s.Addr},
	} {
		if api.addr == "" {
			continue
		}
		host, text, err := net.SplitHostPort(api.addr)
		port, wrong := strconv.ParseUint(text, 10, 16)
		if err != nil || wrong != nil || port == 0 {
			return nil, fmt.Errorf("%s is %q; must be host:port, such as 127.0.0.1:8080", api.variable, api.addr)
		}
		all = append([]listener{{api.what, api.variable, net.JoinHostPort(host, ""), int(port)}}, all...)
	}
	if s.PostgresPort != 0 {
		all = append(all, listener{"Postgres", "MATHUB_POSTGRES_PORT", "", s.PostgresPort})
	}
	return all, nil
}

// check returns an error when the port is taken.
func (l listener) check(port int) error {
	if l.host == "" {
		return freeport.Check(port)
	}
	opened, err := net.Listen("tcp", l.setting(port)) //nolint:noctx // it does not wait
	if err != nil {
		return err
	}
	return opened.Close()
}

// setting is the variable's value for a port.
func (l listener) setting(port int) string { return l.host + strconv.Itoa(port) }

// at names the place for a person.
func (l listener) at(port int) string {
	if l.host == "" {
		return fmt.Sprintf("port %d", port)
	}
	return l.setting(port)
}

// free is the next port that is free and was not proposed before.
func (l listener) free(proposed map[int]bool) int {
	for port := l.port + 1; port <= 65535; port++ {
		if !proposed[port] && l.check(port) == nil {
			proposed[port] = true
			return port
		}
	}
	return 0 // any
}

// cause is what the system said, without the call that it said it to.
func cause(err error) error {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number
	}
	return err
}
