package testutil

import (
	"fmt"
	"syscall"
	"testing"
)

// ClosedPort is a host and port at which connections are refused until the test's end: a socket holds the port and does not listen, so
// that nobody else gets it.
func ClosedPort(t testing.TB) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	loopback := [4]byte{127, 0, 0, 1}
	if err = syscall.Bind(socket, &syscall.SockaddrInet4{Addr: loopback}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	bound, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		t.Fatalf("a socket at %v", name)
	}
	return fmt.Sprintf("127.0.0.1:%d", bound.Port)
}
