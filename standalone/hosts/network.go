// Package hosts makes hosts on this machine that have a network of their own, so that tests can cut, slow and lose what crosses
// it. A host is a network namespace of Linux with one interface. The packets of all interfaces cross a switch in this process,
// which does to them what the link between their hosts says: the kernel needs no netem. It needs root.
//
// The namespaces have no name. They end with this process and the processes on the hosts, however these end, so nothing is
// ever left to remove.
package hosts

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// mtu is that of jumbo frames, as in many data centres: each packet costs this process two system calls.
const mtu = 9000

// Link is what befalls the packets from one host to another. Those of the other direction have a link of their own. The zero
// Link does nothing to them.
type Link struct {
	// Cut loses every packet, without a word to the sender.
	Cut bool
	// Loss is the share of packets that are lost, from 0 to 1.
	Loss float64
	// Delay is what each packet takes longer. The order stays.
	Delay time.Duration
	// Rate is how many bytes cross in a second; 0: no bound. What does not fit waits, as in a router's queue.
	Rate int
}

// Network connects hosts. Its methods may be called by several goroutines.
type Network struct {
	prefix netip.Prefix
	ports  [1 << 16]atomic.Pointer[Host] // by the last two bytes of the address

	mu    sync.Mutex
	hosts []*Host
}

// New makes a network without hosts. prefix is the addresses that its hosts may have: a /16 of IPv4.
func New(prefix netip.Prefix) (*Network, error) {
	if !prefix.Addr().Is4() || prefix.Bits() != 16 {
		return nil, fmt.Errorf("the network %s is not a /16 of IPv4", prefix)
	}
	if err := Possible(); err != nil {
		return nil, err
	}
	return &Network{prefix: prefix.Masked()}, nil
}

// Add makes a host with an address of the network. Name is what the host's processes take for the machine's.
func (n *Network) Add(name string, address netip.Addr) (*Host, error) {
	if !n.prefix.Contains(address) {
		return nil, fmt.Errorf("%s: the address %s is not in %s", name, address, n.prefix)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ports[place(address)].Load() != nil {
		return nil, fmt.Errorf("%s: the address %s is another host's", name, address)
	}
	h := &Host{Name: name, Address: address, network: n}
	if err := h.enterNamespace(n.prefix.Bits()); err != nil {
		return nil, fmt.Errorf("make the host %s: %w", name, err)
	}
	n.ports[place(address)].Store(h)
	n.hosts = append(n.hosts, h)
	h.reading.Go(h.forward)
	return h, nil
}

// Close ends the network and all hosts. The processes on them must have ended.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, h := range n.hosts {
		n.ports[place(h.Address)].Store(nil)
		errs = append(errs, h.close())
	}
	n.hosts = nil
	return errors.Join(errs...)
}

// Set sets the link from one host to another, for the packets that come from now on.
func (n *Network) Set(from, to *Host, link Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	links := map[netip.Addr]*wire{}
	maps.Copy(links, from.links())
	before := links[to.Address]
	if before == nil {
		before = &wire{to: to, queue: new(queue)}
	}
	links[to.Address] = before.with(link)
	from.wires.Store(&links)
}

// Sent is how many bytes a host has sent to another since the link between them was first set, with what was lost.
func (n *Network) Sent(from, to *Host) uint64 {
	w := from.links()[to.Address]
	if w == nil {
		return 0
	}
	return w.queue.carried.Load()
}

// SetBoth sets the links of both directions.
func (n *Network) SetBoth(a, b *Host, link Link) {
	n.Set(a, b, link)
	n.Set(b, a, link)
}

// SetFrom sets the links from a host to all others.
func (n *Network) SetFrom(from *Host, link Link) {
	for _, other := range n.others(from) {
		n.Set(from, other, link)
	}
}

// SetTo sets the links to a host from all others.
func (n *Network) SetTo(to *Host, link Link) {
	for _, other := range n.others(to) {
		n.Set(other, to, link)
	}
}

// SetAround sets all links from and to a host.
func (n *Network) SetAround(h *Host, link Link) {
	n.SetFrom(h, link)
	n.SetTo(h, link)
}

func (n *Network) others(h *Host) (others []*Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range n.hosts {
		if other != h {
			others = append(others, other)
		}
	}
	return others
}

// place is where an address stands in a network's ports.
func place(address netip.Addr) int {
	bytes := address.As4()
	return int(bytes[2])<<8 | int(bytes[3])
}
