package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func alive() *exchange { return &exchange{Context: context.Background()} }

// Errors that loopback does not give.
func TestFaults(t *testing.T) {
	t.Parallel()
	dial := func(errno syscall.Errno) error {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}, Err: os.NewSyscallError("connect", errno)}
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{dial(syscall.ECONNREFUSED), "connection refused"},
		{dial(syscall.ECONNRESET), "connection reset"},
		{dial(syscall.ECONNABORTED), "connection reset"},
		{dial(syscall.EPIPE), "connection closed"},
		{dial(syscall.ETIMEDOUT), "connect timeout"},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}, "timeout"},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, "timeout"},
		{dial(syscall.EHOSTUNREACH), "host unreachable"},
		{dial(syscall.ENETUNREACH), "network unreachable"},
		{dial(syscall.EAFNOSUPPORT), "network unreachable"},
		{dial(syscall.ENETDOWN), "network unreachable"},
		{dial(syscall.EPERM), "network unreachable"},
		{dial(syscall.EACCES), "network unreachable"},
		{dial(syscall.EINVAL), "network unreachable"},
		{fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", dial(syscall.ECONNRESET)), "connection reset"},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, "connect timeout"},
		{&net.OpError{Op: "dial", Err: errBlocked}, "blocked: address not allowed"},
		{io.EOF, "connection closed"},
		{io.ErrUnexpectedEOF, "connection closed"},
		{net.ErrClosed, "connection closed"},
		{errors.New("http: server closed idle connection"), "connection closed"},
		{errors.New("http2: client connection lost"), "connection closed"},
		{errors.New("readLoopPeekFailLocked: %!w(<nil>)"), "invalid response"},
		{errors.New("http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR, debug=\"secret\""), "connection closed"},
		{errors.New("stream error: stream ID 1; INTERNAL_ERROR; received from peer"), "connection reset"},
		{errors.New("connection error: FRAME_SIZE_ERROR"), "invalid response"},
		{errors.New("http2: response header list larger than advertised limit"), "response headers too large"},
		{errors.New("something that nobody has thought of"), "request failed"},
		{x509.UnknownAuthorityError{}, "tls: unknown authority"},
		{&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}}}, "tls: wrong host"},
		{&tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.TooManyIntermediates}}, "tls: invalid certificate"},
		{&tls.CertificateVerificationError{Err: errors.New("x509: other")}, "tls: invalid certificate"},
		{tls.AlertError(40), "tls: handshake failed"},
		{&net.OpError{Op: "remote error", Err: tls.AlertError(40)}, tlsNoCipher},
		{errors.New("tls: server selected unsupported protocol version 301"), "tls: protocol version too old"},
		{errors.New("tls: server chose an unconfigured cipher suite"), tlsNoCipher},
		{&net.DNSError{IsNotFound: true}, "dns: no such host"},
		{&net.DNSError{IsTimeout: true}, "dns: timeout"},
		{&net.DNSError{Err: "server misbehaving", IsTemporary: true}, "dns: server failure"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, "dns: no such host"},
	} {
		text, ours := alive().fault(c.err)
		require.NoError(t, ours)
		require.Equal(t, c.want, text, "%v", c.err)
	}
	for _, errno := range ownFaults {
		text, ours := alive().fault(dial(errno))
		require.Empty(t, text)
		require.ErrorIs(t, ours, errno)

		text, ours = alive().fault(&net.DNSError{Err: "dial udp 127.0.0.53:53: " + errno.Error()})
		require.Empty(t, text)
		require.ErrorIs(t, ours, errno)
	}
}

func TestWhoseTimeIsOver(t *testing.T) {
	t.Parallel()
	limited, cancel := context.WithTimeoutCause(context.Background(), 0, errTimeout)
	defer cancel()
	<-limited.Done()
	e := &exchange{Context: limited}
	text, ours := e.fault(io.EOF)
	require.NoError(t, ours)
	require.Equal(t, "connect timeout", text)
	e.resolving.Store(true)
	text, _ = e.fault(io.EOF)
	require.Equal(t, "dns: timeout", text)
	e.resolving.Store(false)
	e.connect.end(time.Now())
	text, _ = e.fault(io.EOF)
	require.Equal(t, "timeout", text, "in the TLS handshake")

	// A lookup that was begun for the request goes on while a kept connection serves it.
	kept := &exchange{Context: limited}
	kept.resolving.Store(true)
	kept.connected.Store(true)
	text, _ = kept.fault(io.EOF)
	require.Equal(t, "timeout", text)

	caller, cancelCaller := context.WithCancel(context.Background())
	cancelCaller()
	both, cancelBoth := context.WithTimeoutCause(caller, time.Hour, errTimeout)
	defer cancelBoth()
	text, ours = (&exchange{Context: both}).fault(io.EOF)
	require.Empty(t, text)
	require.ErrorIs(t, ours, context.Canceled)
}

// A receiver on IPv6 that this machine has no address for is unreachable; one towards which every local port is taken
// is not to blame.
func TestAddressNotAvailable(t *testing.T) {
	t.Parallel()
	at := func(ip string) error {
		return &net.OpError{Op: "dial", Addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 9}, Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}
	}
	_, ours := alive().fault(at("127.0.0.1"))
	require.ErrorIs(t, ours, syscall.EADDRNOTAVAIL)
	_, ours = alive().fault(fmt.Errorf("wrapped: %w", syscall.EADDRNOTAVAIL))
	require.ErrorIs(t, ours, syscall.EADDRNOTAVAIL, "nothing is known of where to")

	for errno, want := range map[syscall.Errno]bool{0: true, syscall.EADDRNOTAVAIL: false, syscall.ENETUNREACH: false, syscall.EMFILE: true} {
		got := routable(at("2606:4700::1111"), func(to *net.UDPAddr) error {
			require.Equal(t, "[2606:4700::1111]:9", to.String())
			if errno == 0 {
				return nil
			}
			return os.NewSyscallError("connect", errno)
		})
		require.Equal(t, want, got, errno)
	}
}
