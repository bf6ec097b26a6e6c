package hosts_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/hosts"
)

// pair is a network with two hosts; b echoes what it gets on port 7.
func pair(t *testing.T) (network *hosts.Network, a, b *hosts.Host) {
	t.Helper()
	if err := hosts.Possible(); err != nil {
		t.Skip(err)
	}
	network, err := hosts.New(netip.MustParsePrefix("10.44.0.0/16"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, network.Close()) })
	a, err = network.Add("alpha", netip.MustParseAddr("10.44.0.1"))
	require.NoError(t, err)
	b, err = network.Add("beta", netip.MustParseAddr("10.44.3.2"))
	require.NoError(t, err)
	listener, err := b.Listen(7)
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return network, a, b
}

func dial(t *testing.T, from, to *hosts.Host) net.Conn {
	t.Helper()
	conn, err := from.DialContext(t.Context(), "tcp", to.At(7))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// echo sends bytes and waits, within a limit, until they are back.
func echo(conn net.Conn, limit time.Duration, sent []byte) error {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	go func() { _, _ = conn.Write(sent) }()
	_, err := io.ReadFull(conn, make([]byte, len(sent)))
	return err
}

const patience = 30 * time.Second

func TestHostsReachEachOther(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	require.NoError(t, echo(dial(t, a, b), patience, make([]byte, 4<<20)), "more than a packet, and than a buffer")

	_, err := a.DialContext(t.Context(), "tcp", a.At(7))
	require.ErrorContains(t, err, "refused", "a host has its own ports")
	_, err = a.DialContext(t.Context(), "tcp", "192.0.2.1:80")
	require.ErrorContains(t, err, "unreachable", "there is no way out of the network")
}

func withTimeout(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestProcessesRunOnHosts(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	run := func(name string, args ...string) string {
		cmd := exec.Command(name, args...)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		require.NoError(t, a.Thread.Do(cmd.Start))
		require.NoError(t, cmd.Wait(), out.String())
		return strings.TrimSpace(out.String())
	}
	require.Equal(t, "alpha", run("uname", "-n"))
	require.Equal(t, "heard", run("bash", "-c", "exec 3<>/dev/tcp/"+b.Address.String()+"/7; echo heard >&3; read line <&3; echo $line"))
	here, err := os.Hostname()
	require.NoError(t, err)
	require.NotEqual(t, "alpha", here, "this process stays where it is")
}

func TestLink_Cut(t *testing.T) {
	t.Parallel()
	const soon = 500 * time.Millisecond // much longer than without a fault
	for name, cut := range map[string]func(n *hosts.Network, a, b *hosts.Host, link hosts.Link){
		"one way":       func(n *hosts.Network, a, b *hosts.Host, link hosts.Link) { n.Set(a, b, link) },
		"the other way": func(n *hosts.Network, a, b *hosts.Host, link hosts.Link) { n.Set(b, a, link) },
		"both ways":     func(n *hosts.Network, a, b *hosts.Host, link hosts.Link) { n.SetBoth(a, b, link) },
		"from a host":   func(n *hosts.Network, a, _ *hosts.Host, link hosts.Link) { n.SetFrom(a, link) },
		"to a host":     func(n *hosts.Network, _, b *hosts.Host, link hosts.Link) { n.SetTo(b, link) },
		"around a host": func(n *hosts.Network, a, _ *hosts.Host, link hosts.Link) { n.SetAround(a, link) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			network, a, b := pair(t)
			conn := dial(t, a, b)
			require.NoError(t, echo(conn, patience, []byte("before")))
			cut(network, a, b, hosts.Link{Cut: true})
			require.ErrorIs(t, echo(conn, soon, []byte("while")), os.ErrDeadlineExceeded)
			_, err := a.DialContext(withTimeout(t, soon), "tcp", b.At(7))
			var failure net.Error
			require.ErrorAs(t, err, &failure)
			require.True(t, failure.Timeout(), "silence, and no refusal: %v", err)
			cut(network, a, b, hosts.Link{})
			conn = dial(t, a, b)
			require.NoError(t, echo(conn, patience, []byte("after")))
		})
	}
}

func TestLink_Delay(t *testing.T) {
	t.Parallel()
	network, a, b := pair(t)
	conn := dial(t, a, b)
	const delay = 200 * time.Millisecond
	network.SetBoth(a, b, hosts.Link{Delay: delay})
	began := time.Now()
	require.NoError(t, echo(conn, patience, []byte("there and back")))
	require.GreaterOrEqual(t, time.Since(began), 2*delay)
	require.NoError(t, echo(conn, patience, make([]byte, 100<<10)), "many packets are under way at once, in order")
}

func TestLink_Loss(t *testing.T) {
	t.Parallel()
	network, a, b := pair(t)
	listener, err := b.ListenPacket(9)
	require.NoError(t, err)
	conn, err := a.DialContext(t.Context(), "udp", listener.LocalAddr().String())
	require.NoError(t, err)
	network.Set(a, b, hosts.Link{Loss: 0.5})
	const rounds, each = 20, 50 // so few at once that no buffer overflows
	arrived := 0
	for round := range rounds {
		for range each {
			_, err := conn.Write([]byte("x"))
			require.NoError(t, err)
		}
		// The order stays, so the round is over when one of these arrives.
		last := fmt.Sprintf("last of round %d", round)
		for range 40 {
			_, err := conn.Write([]byte(last))
			require.NoError(t, err)
		}
		arrived += packetsBefore(t, listener, last)
	}
	require.InDelta(t, rounds*each/2, arrived, 100, "six standard deviations")
}

// packetsBefore counts the packets x that arrive before another.
func packetsBefore(t *testing.T, listener net.PacketConn, last string) (n int) {
	t.Helper()
	for buffer := make([]byte, 100); ; {
		require.NoError(t, listener.SetReadDeadline(time.Now().Add(patience)))
		size, _, err := listener.ReadFrom(buffer)
		require.NoError(t, err)
		switch string(buffer[:size]) {
		case "x":
			n++
		case last:
			return n
		}
	}
}

func TestLink_Rate(t *testing.T) {
	t.Parallel()
	network, a, b := pair(t)
	conn := dial(t, a, b)
	network.Set(a, b, hosts.Link{Rate: 1 << 20})
	began := time.Now()
	require.NoError(t, echo(conn, patience, make([]byte, 1<<19)))
	require.GreaterOrEqual(t, time.Since(began), 500*time.Millisecond)
}

func TestNetwork_Sent(t *testing.T) {
	t.Parallel()
	network, a, b := pair(t)
	conn := dial(t, a, b)
	require.Zero(t, network.Sent(a, b), "no link was set")
	network.Set(a, b, hosts.Link{})
	require.NoError(t, echo(conn, patience, make([]byte, 1<<20)))
	require.InEpsilon(t, 1<<20, network.Sent(a, b), 0.05, "with the headers")
	require.Zero(t, network.Sent(b, a), "the other direction has a link of its own")
}

// TestHost_SetDisk: a host's disk is its own, and full when it is.
func TestHost_SetDisk(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	require.NoError(t, a.SetDisk(folder, 1<<20))
	write := func() error {
		return a.Thread.Do(func() error { return os.WriteFile(file, make([]byte, 2<<20), 0o600) })
	}
	require.ErrorIs(t, write(), syscall.ENOSPC)
	require.NoError(t, a.SetDisk(folder, 4<<20))
	require.NoError(t, write())
	require.NoFileExists(t, file, "this process sees nothing of it")
	require.ErrorIs(t, b.Thread.Do(func() error { _, err := os.Stat(file); return err }), os.ErrNotExist)
}

func TestNetworkRefuses(t *testing.T) {
	t.Parallel()
	network, _, _ := pair(t)
	_, err := network.Add("gamma", netip.MustParseAddr("10.45.0.1"))
	require.ErrorContains(t, err, "gamma: the address 10.45.0.1 is not in 10.44.0.0/16")
	_, err = network.Add("gamma", netip.MustParseAddr("10.44.0.1"))
	require.ErrorContains(t, err, "another host's")
	_, err = hosts.New(netip.MustParsePrefix("10.44.0.0/24"))
	require.ErrorContains(t, err, "/16")
}
