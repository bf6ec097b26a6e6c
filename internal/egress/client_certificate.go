package egress

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// errClientCertificate is the fault of an exchange with a receiver that asked for our client certificate.
var errClientCertificate = errors.New("egress: our client certificate has expired, or is not valid yet")

const (
	// certificateFresh is how long a client certificate is used before its files are looked at again.
	certificateFresh = time.Second
	// certificateWait is how long a connection waits for that: files on a network's disk may take for ever.
	certificateWait = time.Second
)

// ClientCertificate is what receivers get that ask for a client certificate. It is read again once its files have changed; while
// they cannot be read, the last one stays. A nil one is none. It is safe for concurrent use.
type ClientCertificate struct {
	certFile, keyFile string
	log               *slog.Logger
	now               func() time.Time

	latest atomic.Pointer[tls.Certificate]

	mu       sync.Mutex
	lookedAt time.Time     // when the files were last looked at; guarded by mu
	looking  chan struct{} // closed at the end of the look that is in progress; nil: none is; guarded by mu

	// Of the one look that is in progress.
	files   []fs.FileInfo // as they were when latest was read
	failing string        // why they cannot be read now
}

// LoadClientCertificate reads a certificate with its chain, and its key, both PEM. An empty keyFile means that the key is in
// certFile. What is said of later changes goes to the log. An error names the file.
func LoadClientCertificate(certFile, keyFile string, log *slog.Logger) (*ClientCertificate, error) {
	if keyFile == "" {
		keyFile = certFile
	}
	c := &ClientCertificate{certFile: certFile, keyFile: keyFile, log: log, now: time.Now}
	if err := c.read(); err != nil {
		return nil, err
	}
	c.lookedAt = c.now()
	return c, nil
}

// Subject is the certificate's, in the form of RFC 2253.
func (c *ClientCertificate) Subject() string { return c.current().Leaf.Subject.String() }

// NotAfter is when the certificate expires.
func (c *ClientCertificate) NotAfter() time.Time { return c.current().Leaf.NotAfter }

// current returns the certificate of the files, as they were at most certificateFresh ago or, where they cannot be read soon, before;
// nil of a nil one.
func (c *ClientCertificate) current() *tls.Certificate {
	if c == nil {
		return nil
	}
	if looking := c.begin(); looking != nil {
		select {
		case <-looking:
		case <-time.After(certificateWait):
		}
	}
	return c.latest.Load()
}

// begin has the files looked at, if it is time, and returns a channel that is closed when that has ended. Nil: there is nothing to wait
// for.
func (c *ClientCertificate) begin() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if c.looking == nil && now.Sub(c.lookedAt) >= certificateFresh {
		c.lookedAt, c.looking = now, make(chan struct{})
		go func() {
			c.look()
			c.mu.Lock()
			defer c.mu.Unlock()
			close(c.looking)
			c.looking = nil
		}()
	}
	if now.Sub(c.lookedAt) > certificateWait {
		return nil
	}
	return c.looking
}

// look reads the files if they have changed. A pair that is just being replaced does not fit: it is read again.
func (c *ClientCertificate) look() {
	files, err := c.stat()
	if err == nil && slices.EqualFunc(files, c.files, sameFile) {
		c.failing = ""
		return
	}
	if err == nil {
		err = c.read()
	}
	switch {
	case err == nil:
		c.failing = ""
		c.log.Info("read a new client certificate", "expires", c.latest.Load().Leaf.NotAfter.UTC())
	case err.Error() != c.failing:
		c.failing = err.Error()
		c.log.Error("could not read the new client certificate; the last one stays in use", "error", err)
	}
}

func (c *ClientCertificate) stat() ([]fs.FileInfo, error) {
	certificate, err := os.Stat(c.certFile)
	if err != nil {
		return nil, err
	}
	key, err := os.Stat(c.keyFile)
	return []fs.FileInfo{certificate, key}, err
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func (c *ClientCertificate) read() error {
	files, err := c.stat() // before they are read: what changes meanwhile is read again
	if err != nil {
		return err
	}
	certificate, err := os.ReadFile(c.certFile)
	if err != nil {
		return err
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return fmt.Errorf("%s and its key: %w", c.certFile, err)
	}
	c.files = files
	c.latest.Store(&pair)
	return nil
}

// isCurrent reports whether a certificate is valid at a time.
func isCurrent(c *tls.Certificate, now time.Time) bool {
	return !now.After(c.Leaf.NotAfter) && !now.Before(c.Leaf.NotBefore)
}

// certificateStatuses are how receivers refuse a client certificate over HTTP, after the handshake. nginx answers 400, and has 495
// and 496 for it.
var certificateStatuses = []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, 495, 496}

// blamesCertificate reports whether a status may be about our client certificate, as that is not valid now.
func (e *exchange) blamesCertificate(status int) bool {
	given := e.certificateGiven.Load()
	return given != nil && !isCurrent(given, e.now()) && slices.Contains(certificateStatuses, status)
}

// sessions resume TLS connections. Those of a former client certificate are forgotten: a resumed session has the identity of
// its first handshake.
type sessions struct {
	size  int
	mu    sync.Mutex
	owner *tls.Certificate // the certificate whose sessions they are, or nil; guarded by mu, as cache
	cache tls.ClientSessionCache
}

func (s *sessions) of(own *tls.Certificate) tls.ClientSessionCache {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cache == nil || s.owner != own {
		s.owner, s.cache = own, smallSessions{tls.NewLRUClientSessionCache(min(s.size, maxSessions))}
	}
	return s.cache
}

const (
	// maxSessions is how many receivers' sessions are kept, and maxSessionBytes how large one is, with the receiver's certificates:
	// common ones have 10 KiB. A stranger with a name for each connection and a chain of 256 KiB could fill the memory.
	maxSessions     = 1024
	maxSessionBytes = 16 << 10
)

// smallSessions keeps no session that is too large, nor what it was before.
type smallSessions struct{ tls.ClientSessionCache }

// Put implements tls.ClientSessionCache.
func (c smallSessions) Put(key string, session *tls.ClientSessionState) {
	if session != nil {
		ticket, state, err := session.ResumptionState()
		if err != nil {
			return
		}
		if encoded, err := state.Bytes(); err != nil || len(ticket)+len(encoded) > maxSessionBytes {
			session = nil
		}
	}
	c.ClientSessionCache.Put(key, session)
}
