package egress

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// Of SOCKS5 (RFC 1928) and its authentication by user and password (RFC 1929).
const (
	socksVersion        = 5
	socksNoAuth         = 0
	socksPassword       = 2
	socksPasswordFormat = 1
	socksConnect        = 1
	socksIPv4           = 1
	socksName           = 3
	socksIPv6           = 4
	socksNoIPv6         = 8 // address type not supported
)

// socksFaults are the replies that may speak of the receiver, in the words of describe: as in HTTP, 1 is a failure without a name,
// and 2 a rule. Others speak of the proxy, as 7, a command that it does not know.
var socksFaults = map[byte]string{
	1: hostUnreachable,
	2: proxyRefuses,
	3: networkUnreachable,
	4: hostUnreachable,
	5: connectionRefused,
	6: connectTimeout, // microsocks for ETIMEDOUT; "TTL expired" in the RFC
}

// negotiateSOCKS agrees on a way to authenticate, and does.
func (p *Proxy) negotiateSOCKS(conn net.Conn) error {
	hello := []byte{socksVersion, 1, socksNoAuth}
	if p.hasUser {
		hello = []byte{socksVersion, 1, socksPassword}
	}
	var answer [2]byte
	if err := converse(conn, hello, answer[:]); err != nil {
		return err
	}
	switch {
	case answer[0] != socksVersion:
		return errNoProxy
	case answer[1] != hello[2] && p.hasUser:
		return &proxyError{cause: "it does not take a user and password"}
	case answer[1] != hello[2]:
		return &proxyError{cause: "it wants a user and password"}
	case !p.hasUser:
		return nil
	}
	login := append([]byte{socksPasswordFormat, byte(len(p.user))}, p.user...)
	login = append(append(login, byte(len(p.password))), p.password...)
	if err := converse(conn, login, answer[:]); err != nil {
		return err
	}
	if answer[1] != 0 {
		return &proxyError{cause: "it refuses the user or password"}
	}
	return nil
}

// connectSOCKS asks for a tunnel to the address.
func (p *Proxy) connectSOCKS(conn net.Conn, to netip.AddrPort) error {
	request := []byte{socksVersion, socksConnect, 0, socksIPv4}
	if to.Addr().Is6() {
		request[3] = socksIPv6
	}
	request = binary.BigEndian.AppendUint16(append(request, to.Addr().AsSlice()...), to.Port())
	var head [4]byte
	if err := converse(conn, request, head[:]); err != nil {
		return proxyDown(err)
	}
	if head[0] != socksVersion {
		return proxyDown(errNoProxy)
	}
	if reply := head[1]; reply != 0 {
		return refusedBySOCKS(reply, to)
	}
	if err := skipAddress(conn, head[3]); err != nil {
		return proxyDown(err)
	}
	return nil
}

func refusedBySOCKS(reply byte, to netip.AddrPort) error {
	if text := socksFaults[reply]; text != "" {
		return &tunnelFault{text}
	}
	if reply == socksNoIPv6 && to.Addr().Is6() {
		return &tunnelFault{networkUnreachable} // as of a machine without IPv6
	}
	return &proxyError{cause: fmt.Sprintf("SOCKS reply %d", reply)}
}

// skipAddress reads from where the proxy has connected, byte for byte: what follows is the receiver's.
func skipAddress(conn net.Conn, kind byte) error {
	size := map[byte]int{socksIPv4: net.IPv4len, socksIPv6: net.IPv6len}[kind]
	if kind == socksName {
		var length [1]byte
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			return err
		}
		size = int(length[0])
	}
	if size == 0 {
		return errNoProxy
	}
	_, err := io.ReadFull(conn, make([]byte, size+2)) // and a port
	return err
}

// converse sends a message and reads an answer of a known size.
func converse(conn net.Conn, message, answer []byte) error {
	if _, err := conn.Write(message); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, answer)
	return err
}
