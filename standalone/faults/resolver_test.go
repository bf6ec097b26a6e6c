package faults_test

import (
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
)

// resolver is a DNS server, over UDP and TCP, for the names that end in receiverZone: they lead to this machine. It knows no name
// below them, and sends whoever asks for another to an address from which no answer comes.
type resolver struct {
	addr  string
	state atomic.Int32
	asked atomic.Int64 // for receivers, while it was not well
}

const receiverZone = ".receivers.example.net."

// The states of a resolver.
const (
	answering int32 = iota
	mute
	serverFailure
	tooLate // longer than an attempt has
)

func startResolver(t *testing.T) *resolver {
	t.Helper()
	udp, tcp := listenBoth(t)
	r := &resolver{addr: udp.LocalAddr().String()}
	go func() {
		for buffer := make([]byte, 1500); ; {
			n, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			query := append([]byte(nil), buffer[:n]...)
			go r.answer(query, func(reply []byte) { _, _ = udp.WriteTo(reply, from) })
		}
	}()
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			go r.serve(conn)
		}
	}()
	return r
}

// listenBoth listens on one port, for UDP and for TCP, until the test's end.
func listenBoth(t *testing.T) (udp net.PacketConn, tcp net.Listener) {
	t.Helper()
	for range 20 { // what is free for one may not be for the other
		var err error
		udp, err = net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(t, err)
		if tcp, err = net.Listen("tcp", udp.LocalAddr().String()); err == nil {
			t.Cleanup(func() {
				_ = udp.Close()
				_ = tcp.Close()
			})
			return udp, tcp
		}
		require.NoError(t, udp.Close())
	}
	t.Fatal("no port is free for both UDP and TCP")
	return nil, nil
}

// serve answers one query over TCP.
func (r *resolver) serve(conn net.Conn) {
	defer conn.Close() //nolint:errcheck // nothing to be lost
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return
	}
	query := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, query); err != nil {
		return
	}
	r.answer(query, func(reply []byte) {
		_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
	})
}

func (r *resolver) answer(raw []byte, send func([]byte)) {
	var query dnsmessage.Message
	if query.Unpack(raw) != nil || len(query.Questions) != 1 {
		return
	}
	asked := query.Questions[0]
	name, isReceiver := strings.CutSuffix(strings.ToLower(asked.Name.String()), receiverZone)
	reply := dnsmessage.Message{Header: dnsmessage.Header{ID: query.ID, Response: true, RecursionAvailable: true}, Questions: query.Questions}
	state := r.state.Load()
	if isReceiver && state != answering {
		r.asked.Add(1)
	}
	switch {
	case state == mute:
		return
	case state == serverFailure:
		reply.RCode = dnsmessage.RCodeServerFailure
	case isReceiver && strings.Contains(name, "."), strings.HasPrefix(name, "mathub-"):
		reply.RCode = dnsmessage.RCodeNameError
	case asked.Type == dnsmessage.TypeA:
		address := [4]byte{192, 0, 2, 1} // TEST-NET-1
		if isReceiver {
			address = [4]byte{127, 0, 0, 1}
		}
		reply.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: asked.Name, Type: asked.Type, Class: asked.Class}, Body: &dnsmessage.AResource{A: address},
		}}
	}
	if state == tooLate {
		time.Sleep(7 * time.Second) // the fault itself
	}
	packed, err := reply.Pack()
	if err != nil {
		panic(err)
	}
	send(packed)
}
