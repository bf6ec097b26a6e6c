package faults_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// road leads from the product to a receiver, by TCP. Closed, it is as a network that drops packets: what wants to connect hears
// nothing, and nothing more arrives of what is sent over the connections that are there. What had arrived is still answered.
type road struct {
	listener *net.TCPListener
	to       string
	closures atomic.Int64 // odd while it is closed

	mu      sync.Mutex
	opened  chan struct{} // closed while the road is open
	dropped []net.Conn
}

func newRoad(t *testing.T, to string) *road {
	t.Helper()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	r := &road{listener: listener, to: to, opened: make(chan struct{})}
	close(r.opened)
	go r.accept()
	t.Cleanup(func() {
		_ = listener.Close()
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, conn := range r.dropped {
			_ = conn.Close()
		}
	})
	return r
}

// accept takes connections. What came while the road was closed has never arrived.
func (r *road) accept() {
	for {
		conn, err := r.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		r.mu.Lock()
		opened := r.opened
		r.mu.Unlock()
		select {
		case <-opened:
			go r.lead(conn)
		default:
			<-opened
			r.drop(conn)
		}
	}
}

// drop keeps a connection, over which nothing comes.
func (r *road) drop(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dropped = append(r.dropped, conn)
}

// lead is a connection's course.
func (r *road) lead(from net.Conn) {
	defer from.Close() //nolint:errcheck // nothing to be lost
	began := r.closures.Load()
	to, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer to.Close() //nolint:errcheck // as above
	go func() {
		if _, _ = io.Copy(from, to); r.closures.Load() == began { // else nobody hears of it
			_ = from.Close()
		}
	}()
	for buffer := make([]byte, 64<<10); ; {
		n, err := from.Read(buffer)
		if n > 0 && r.closures.Load() == began {
			_, _ = to.Write(buffer[:n])
		}
		if err != nil {
			return
		}
	}
}

// backlog sets how many connections the kernel keeps for accept.
func (r *road) backlog(t *testing.T, most int) {
	t.Helper()
	raw, err := r.listener.SyscallConn()
	require.NoError(t, err)
	var failed error
	require.NoError(t, raw.Control(func(fd uintptr) { failed = unix.Listen(int(fd), most) }))
	require.NoError(t, failed)
}

// close accepts nothing more, and fills the backlog.
func (r *road) close(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	r.opened = make(chan struct{})
	r.mu.Unlock()
	r.closures.Add(1)
	r.backlog(t, 0)
	for range 100 {
		conn, err := net.DialTimeout("tcp", r.listener.Addr().String(), 200*time.Millisecond)
		if err != nil {
			return
		}
		defer conn.Close() //nolint:errcheck // it stays in the backlog, closed
	}
	t.Fatal("the backlog takes everything")
}

// open drops what is in the backlog, and accepts again.
func (r *road) open(t *testing.T) {
	t.Helper()
	require.NoError(t, r.listener.SetDeadline(time.Now().Add(100*time.Millisecond)))
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			break
		}
		r.drop(conn)
	}
	require.NoError(t, r.listener.SetDeadline(time.Time{}))
	r.backlog(t, 1024)
	r.closures.Add(1)
	r.mu.Lock()
	close(r.opened)
	r.mu.Unlock()
}

// limitFiles lets a process have so many open files at most; those that it has stay open.
func limitFiles(t *testing.T, pid int, most uint64) {
	t.Helper()
	var now unix.Rlimit
	require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &now))
	require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: min(most, now.Max), Max: now.Max}, nil))
}

// fileLimit is how many files a process may have open.
func fileLimit(t *testing.T, pid int) uint64 {
	t.Helper()
	var now unix.Rlimit
	require.NoError(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &now))
	return now.Cur
}
