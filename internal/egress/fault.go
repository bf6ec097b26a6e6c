package egress

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"syscall"
)

// ownFaults are what the system says when this machine, not the receiver, has run out of something.
var ownFaults = []syscall.Errno{
	syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM,
}

// fault turns what went wrong in an exchange into the receiver's failing in a few words, or into an error of our own
// side. Error texts are never passed on: they hold addresses, and Go's may come to hold more.
func (e *exchange) fault(err error) (receivers string, ours error) {
	if e.Err() != nil {
		switch cause := context.Cause(e.Context); {
		case !errors.Is(cause, errTimeout):
			return "", fmt.Errorf("egress: %w", cause)
		case e.connected.Load():
			return "timeout", nil
		case e.resolving.Load():
			return "dns: timeout", nil
		case e.atProxy.Load():
			return "", &proxyError{cause: "timeout"}
		case e.connect.ended(): // and the TLS handshake was not
			return "timeout", nil
		}
		return connectTimeout, nil
	}
	if receivers, ours = faultOf(err); ours == nil {
		receivers, ours = e.clientCertificate(receivers)
	}
	return receivers, ours
}

func faultOf(err error) (receivers string, ours error) {
	if proxy := (*proxyError)(nil); errors.As(err, &proxy) {
		return "", proxy
	}
	if told := (*tunnelFault)(nil); errors.As(err, &told) {
		return told.text, nil
	}
	for _, unknown := range []error{errUnknownInterfaces, errUnknownName} {
		if errors.Is(err, unknown) {
			return "", unknown // err itself holds the receiver's address
		}
	}
	if errors.As(err, new(x509.SystemRootsError)) {
		return "", errNoRoots
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dnsFault(dns)
	}
	for _, errno := range ownFaults {
		if errors.Is(err, errno) {
			if errno == syscall.EADDRNOTAVAIL && !routable(err, connectUDP) {
				return networkUnreachable, nil
			}
			return "", fmt.Errorf("egress: this machine is out of sockets or memory: %w", errno)
		}
	}
	return describe(err), nil
}

func dnsFault(err *net.DNSError) (receivers string, ours error) {
	for _, errno := range ownFaults {
		// DNSError keeps only the text.
		if strings.HasSuffix(err.Err, errno.Error()) {
			return "", fmt.Errorf("egress: looking up a name: %w", errno)
		}
	}
	switch {
	case err.IsNotFound:
		return noSuchHost, nil
	case err.IsTimeout:
		return "dns: timeout", nil
	}
	return "dns: server failure", nil
}

// routable tells the two meanings of EADDRNOTAVAIL apart: every local port towards the receiver is in use (true), or
// this machine has no address from which to reach it, such as none of IPv6 (false). Connecting a UDP socket chooses
// an address likewise, and sends nothing.
func routable(err error, connect func(*net.UDPAddr) error) bool {
	var op *net.OpError
	if !errors.As(err, &op) {
		return true
	}
	to, ok := op.Addr.(*net.TCPAddr)
	if !ok {
		return true
	}
	err = connect(&net.UDPAddr{IP: to.IP, Port: to.Port, Zone: to.Zone})
	return !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.ENETUNREACH)
}

func connectUDP(to *net.UDPAddr) error {
	conn, err := net.DialUDP("udp", nil, to)
	if err != nil {
		return err
	}
	return conn.Close()
}

// errnoFaults are the failings of a receiver, or of the way to it, that the system reports.
//
// What connect gives where a rule of this machine forbids the address (a firewall, a route, a sandbox: EPERM, EACCES, and
// EINVAL of a black hole route) is no different from a missing route.
var errnoFaults = []struct {
	errno syscall.Errno
	text  string
}{
	{syscall.ECONNREFUSED, connectionRefused},
	{syscall.ECONNRESET, "connection reset"},
	{syscall.ECONNABORTED, "connection reset"},
	{syscall.EPIPE, "connection closed"},
	{syscall.ETIMEDOUT, "timeout"},
	{syscall.EHOSTUNREACH, hostUnreachable},
	{syscall.EHOSTDOWN, hostUnreachable},
	{syscall.ENETUNREACH, networkUnreachable},
	{syscall.ENETDOWN, networkUnreachable},
	{syscall.EPERM, networkUnreachable},
	{syscall.EACCES, networkUnreachable},
	{syscall.EINVAL, networkUnreachable},
	{syscall.EAFNOSUPPORT, networkUnreachable},
}

// Texts that others than describe ask for.
const (
	noSuchHost         = "dns: no such host"
	connectTimeout     = "connect timeout"
	connectionRefused  = "connection refused"
	hostUnreachable    = "host unreachable"
	networkUnreachable = "network unreachable"
	proxyRefuses       = "refused by the egress proxy"
)

func describe(err error) string {
	if errors.Is(err, errBlocked) {
		return "blocked: address not allowed"
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" && op.Timeout() {
		return connectTimeout
	}
	if text := tlsFault(err); text != "" {
		return text
	}
	for _, f := range errnoFaults {
		if errors.Is(err, f.errno) {
			return f.text
		}
	}
	var network net.Error
	if errors.As(err, &network) && network.Timeout() {
		return "timeout"
	}
	// net/http keeps the types of most of its errors to itself.
	text := err.Error()
	switch {
	case hasAny(text, tooLargeTexts):
		return "response headers too large"
	case errors.As(err, new(textproto.ProtocolError)), hasAny(text, invalidTexts):
		return invalidResponse
	case strings.Contains(text, "stream error"):
		return "connection reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), hasAny(text, closedTexts):
		return "connection closed"
	case strings.Contains(text, "http2: "), strings.Contains(text, connectionErrorText):
		return invalidResponse
	}
	return "request failed"
}

// tooLargeTexts and invalidTexts are net/http's words for responses that break a limit or the protocol.
var (
	tooLargeTexts = []string{"response headers exceeded", "header list larger", "header list too large"}
	invalidTexts  = []string{
		unsolicitedText,
		"malformed", "Content-Length", "transfer encoding", "Transfer-Encoding", "chunk", "trailer", "line too long",
	}
)

// unsolicitedText is net/http's word for a connection on which something came that no request had asked for.
const unsolicitedText = "readLoopPeekFailLocked"

// closedTexts are net/http's words for a connection that the peer closed.
var closedTexts = []string{
	"server closed idle connection",
	"GOAWAY",
	"client connection lost",
	"client conn not usable",
	"client connection force closed",
}

func hasAny(text string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}

// connectionErrorText is net/http's word for an HTTP/2 connection that it has ended for what came over it, to all of its requests.
const connectionErrorText = "connection error"

// connectionEnded reports whether the error is that of a connection, be it closed by its peer or for what the peer sent, which another
// request may have led to.
func connectionEnded(err error) bool {
	return closedByPeer(err) || strings.Contains(err.Error(), connectionErrorText)
}

// closedByPeer reports whether the error is what a connection gives that its peer has closed; [net.ErrClosed] comes of
// net/http closing its own end in answer, while the request is still being written. Leftovers of an earlier answer
// count too: they made the connection useless before this request.
func closedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED) ||
		hasAny(err.Error(), closedTexts) || strings.Contains(err.Error(), unsolicitedText)
}
