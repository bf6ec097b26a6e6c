package hosts

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/mathub/webhooks/standalone/supervise"
)

// Host is a namespace with an address.
type Host struct {
	Name    string
	Address netip.Addr
	// Thread starts processes on the host, see supervise.Options.
	Thread *supervise.Thread

	network   *Network
	namespace *os.File
	tun       *os.File
	reading   sync.WaitGroup
	disks     map[string]bool                      // those of SetDisk, by their folders
	wires     atomic.Pointer[map[netip.Addr]*wire] // by destination; what is missing is a link that does nothing
}

// At is the host's address with a port.
func (h *Host) At(port uint16) string { return netip.AddrPortFrom(h.Address, port).String() }

// DialContext connects from the host. The address must be an IP address with a port.
func (h *Host) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return on(h, func() (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, address) })
}

// Listen listens on a TCP port of the host; 0 is any free one.
func (h *Host) Listen(port uint16) (net.Listener, error) {
	return on(h, func() (net.Listener, error) {
		return new(net.ListenConfig).Listen(context.Background(), "tcp4", h.At(port))
	})
}

// ListenPacket listens on a UDP port of the host; 0 is any free one.
func (h *Host) ListenPacket(port uint16) (net.PacketConn, error) {
	return on(h, func() (net.PacketConn, error) {
		return new(net.ListenConfig).ListenPacket(context.Background(), "udp4", h.At(port))
	})
}

// on runs a function whose sockets are the host's, on a thread of its own that ends with it.
func on[T any](h *Host, run func() (T, error)) (result T, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: no other goroutine runs in the namespace
		if err = h.enter(); err == nil {
			result, err = run()
		}
	}()
	<-done
	return result, err
}

// forward takes what the host's processes send to where it goes.
func (h *Host) forward() {
	packet := make([]byte, mtu)
	for {
		n, err := h.tun.Read(packet)
		if err != nil {
			return // it was closed
		}
		h.send(packet[:n])
	}
}

// send takes an IPv4 packet to the host in its header (RFC 791, 3.1). Anything else is dropped.
func (h *Host) send(packet []byte) {
	if len(packet) < 20 || packet[0]>>4 != 4 {
		return
	}
	address := netip.AddrFrom4([4]byte(packet[16:20]))
	if w := h.links()[address]; w != nil {
		w.carry(packet)
		return
	}
	if !h.network.prefix.Contains(address) {
		return
	}
	if to := h.network.ports[place(address)].Load(); to != nil {
		to.deliver(packet)
	}
}

// deliver hands a packet to the host's kernel. A host that has ended loses it.
func (h *Host) deliver(packet []byte) { _, _ = h.tun.Write(packet) }

func (h *Host) links() map[netip.Addr]*wire {
	if links := h.wires.Load(); links != nil {
		return *links
	}
	return nil
}

func (h *Host) close() error {
	h.Thread.End()
	err := h.tun.Close()
	h.reading.Wait()
	_ = h.namespace.Close() // only read
	return err
}
