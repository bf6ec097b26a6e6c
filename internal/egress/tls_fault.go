package egress

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
)

// errNoRoots: an image without ca-certificates, or a bundle that cannot be read.
var errNoRoots = errors.New("egress: this machine has no certificate authorities")

func hasSystemRoots() bool {
	roots, err := x509.SystemCertPool()
	return err == nil && !roots.Equal(x509.NewCertPool())
}

// The causes of a failed TLS handshake; certificateFault has more.
const (
	tlsUnknownAuthority = "tls: unknown authority"
	tlsExpired          = "tls: certificate expired"
	tlsNotYetValid      = "tls: certificate not yet valid"
	tlsTooOld           = "tls: protocol version too old"
	tlsNoCipher         = "tls: no common cipher suite, or no certificate for host"
	tlsWantsClient      = "tls: client certificate wanted"
	tlsRefusesClient    = "tls: client certificate refused"
	tlsUnknownHost      = "tls: host name unknown to the receiver"
	tlsNoProtocol       = "tls: no common application protocol"
	tlsInternal         = "tls: internal error of the receiver"
	tlsPlainHTTP        = "tls: the receiver speaks plain HTTP"
	tlsLargeChain       = "tls: more than 64 KiB of certificates"
	tlsNone             = "tls: the receiver does not speak TLS"
	tlsRefused          = "tls: refused by the receiver: " // and its alert
	tlsFailed           = "tls: handshake failed"
)

// alertFaults are what a receiver's alert means (RFC 8446, section 6.2), by crypto/tls's words for it.
//
// A handshake failure is what servers say that find no cipher suite in common, and those of large hosts that have no
// certificate for a name.
var alertFaults = map[string]string{
	"protocol version not supported": tlsTooOld,
	"handshake failure":              tlsNoCipher,
	"insufficient security level":    tlsNoCipher,
	"certificate required":           tlsWantsClient,
	"unrecognized name":              tlsUnknownHost,
	"no application protocol":        tlsNoProtocol,
	"internal error":                 tlsInternal,
}

// localFaults are what this side of a handshake finds wrong, by crypto/tls's words for it.
var localFaults = []struct{ text, fault string }{
	{"server selected unsupported protocol version", tlsTooOld},
	{"unconfigured cipher suite", tlsNoCipher},
	{tlsLargeChain, tlsLargeChain},
}

// tlsFault describes an error of the TLS handshake; it is empty for any other.
func tlsFault(err error) string {
	if fault := certificateFault(err); fault != "" {
		return fault
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return recordFault(record.RecordHeader)
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		return tlsPlainHTTP
	}
	text := err.Error()
	if !strings.Contains(text, "tls: ") && !strings.Contains(text, "x509: ") {
		return ""
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		alert := strings.TrimPrefix(op.Err.Error(), "tls: ") // of a fixed list, none of it the receiver's words
		if fault := alertFaults[alert]; fault != "" {
			return fault
		}
		return tlsRefused + alert
	}
	for _, f := range localFaults {
		if strings.Contains(text, f.text) {
			return f.fault
		}
	}
	return tlsFailed
}

func certificateFault(err error) string {
	var (
		invalid   x509.CertificateInvalidError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		verify    *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if strings.Contains(invalid.Detail, " is before ") { // crypto/x509's words for it
			return tlsNotYetValid
		}
		return tlsExpired
	case errors.As(err, &authority):
		return tlsUnknownAuthority
	case errors.As(err, &hostname):
		return "tls: wrong host"
	case errors.As(err, &invalid), errors.As(err, &verify):
		return "tls: invalid certificate"
	}
	return ""
}

// recordFault describes what came where a TLS record should begin.
func recordFault(header [5]byte) string {
	switch {
	case bytes.Equal(header[:], []byte("HTTP/")), header[0] == '<': // some servers send the page of an error alone
		return tlsPlainHTTP
	case header[0] < 20 || header[0] > 24: // RFC 8446, section 5.1, and RFC 6520
		return tlsNone
	}
	return tlsFailed
}

// certificateAlerts are what a receiver says that does not take a client certificate, by crypto/tls's words for it.
var certificateAlerts = []string{
	"bad certificate", "unsupported certificate", "revoked certificate", "expired certificate", "unknown certificate",
	"unknown certificate authority", "access denied", "certificate required",
}

// clientCertificate corrects the fault of an exchange whose connection ended, before any answer, after the receiver had
// asked for a client certificate. In TLS 1.3 the handshake is over for the client then; and what it sees, where there was no
// certificate, is anything from an alert of any kind to a reset.
func (e *exchange) clientCertificate(fault string) (receivers string, ours error) {
	if fault == "" || fault == "timeout" || !e.certificateAsked.Load() || e.firstByte.ended() {
		return fault, nil
	}
	given := e.certificateGiven.Load()
	if given == nil {
		return tlsWantsClient, nil
	}
	if !isCurrent(given, e.now()) {
		return "", errClientCertificate
	}
	if alert, ok := strings.CutPrefix(fault, tlsRefused); ok && slices.Contains(certificateAlerts, alert) || fault == tlsWantsClient {
		return tlsRefusesClient, nil
	}
	return fault, nil
}
