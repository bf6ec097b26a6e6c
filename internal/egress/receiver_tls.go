package egress

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"time"
)

const (
	// maxChainBytes bounds the certificates of a receiver, which each connection keeps: common ones have 6 KiB, and crypto/tls takes 256.
	maxChainBytes = 64 << 10
	// maxOfOneName is how many certificates of one name may be between a receiver's and an authority: a CA's, and one by which another
	// vouches for it. crypto/x509 tries a signature with 100 that have the name of its signer. With the keys that take longest, that is
	// 160 ms of a processor, for each connection.
	maxOfOneName = 2
)

// receiverTLS is how one connection verifies its receiver and resumes what an earlier one has verified.
type receiverTLS struct {
	tls.ClientSessionCache // nil: nothing is resumed

	name   string // of the receiver, or its address
	roots  *x509.CertPool
	now    func() time.Time
	expiry time.Time // of the receiver's certificate; written in the handshake only
}

// configure has crypto/tls leave the verification to verify, which else does the same.
func (r *receiverTLS) configure(config *tls.Config) {
	config.ServerName = r.name
	config.InsecureSkipVerify = true // verify does that part
	config.VerifyConnection = r.verify
	if r.ClientSessionCache != nil {
		config.ClientSessionCache = r
	}
}

func (r *receiverTLS) verify(state tls.ConnectionState) error {
	certificates := state.PeerCertificates
	r.expiry = certificates[0].NotAfter
	if state.DidResume { // it was verified then
		return nil
	}
	size := 0
	for _, c := range certificates {
		size += len(c.Raw)
	}
	if size > maxChainBytes {
		return errors.New(tlsLargeChain)
	}
	_, err := certificates[0].Verify(x509.VerifyOptions{
		Roots: r.roots, Intermediates: fewOfEachName(certificates[1:]), DNSName: r.name, CurrentTime: r.now(),
	})
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: certificates, Err: err}
	}
	return nil
}

func fewOfEachName(certificates []*x509.Certificate) *x509.CertPool {
	pool, of := x509.NewCertPool(), map[string]int{}
	for _, c := range certificates {
		if name := string(c.RawSubject); of[name] < maxOfOneName {
			of[name]++
			pool.AddCert(c)
		}
	}
	return pool
}

// Put implements tls.ClientSessionCache.
func (r *receiverTLS) Put(key string, session *tls.ClientSessionState) {
	if _, state, err := session.ResumptionState(); err == nil && state != nil {
		state.Extra = [][]byte{binary.BigEndian.AppendUint64(nil, uint64(r.expiry.Unix()))}
	}
	r.ClientSessionCache.Put(key, session)
}

// Get implements tls.ClientSessionCache. A session does not outlive the receiver's certificate, as in crypto/tls: the receiver may
// have another by now.
func (r *receiverTLS) Get(key string) (*tls.ClientSessionState, bool) {
	session, found := r.ClientSessionCache.Get(key)
	_, state, err := session.ResumptionState()
	if err != nil || state == nil || r.now().Unix() > int64(binary.BigEndian.Uint64(state.Extra[0])) {
		return nil, false
	}
	return session, found
}
