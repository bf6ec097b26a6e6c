// Package web is what the API and the portal share about HTTP.
package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/problem"
)

// Origin is where a request comes from, by what its connection and the trusted proxies say; its headers anybody can write.
type Origin struct {
	// Client is the client's address, as limits count it.
	Client string
	// Address is the client's own address; empty: there is none, as of a local socket.
	Address string
	// Prefix is what a proxy has cut off the path, so that links must have it again; empty: nothing.
	Prefix string
	// HTTPS says that the client sees https.
	HTTPS bool
}

type originKey struct{}

// WithOrigin returns r with its origin.
func WithOrigin(r *http.Request, origin Origin) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), originKey{}, origin))
}

// OriginOf returns what WithOrigin was given.
func OriginOf(r *http.Request) Origin {
	origin, _ := r.Context().Value(originKey{}).(Origin)
	return origin
}

// URL is the service's own as the client knows it, without a trailing slash.
func (o Origin) URL(r *http.Request) string {
	scheme := "http"
	if o.HTTPS {
		scheme = "https"
	}
	return scheme + "://" + r.Host + o.Prefix
}

// HungUp is the status for a client that has ended the connection, as nginx has it. One that has ended its own side only, and reads on,
// must not take what it gets for a success.
const HungUp = 499

// HasHungUp says whether err comes of that end.
func HasHungUp(r *http.Request, err error) bool {
	return errors.Is(err, context.Canceled) && r.Context().Err() != nil
}

// statusOf maps kinds of problems to HTTP, the only place that does.
var statusOf = map[problem.Kind]int{
	problem.Internal:             http.StatusInternalServerError,
	problem.Malformed:            http.StatusBadRequest,
	problem.Late:                 http.StatusRequestTimeout,
	problem.Unauthorized:         http.StatusUnauthorized,
	problem.Forbidden:            http.StatusForbidden,
	problem.NotFound:             http.StatusNotFound,
	problem.MethodNotAllowed:     http.StatusMethodNotAllowed,
	problem.Conflict:             http.StatusConflict,
	problem.Gone:                 http.StatusGone,
	problem.TooLarge:             http.StatusRequestEntityTooLarge,
	problem.UnsupportedMediaType: http.StatusUnsupportedMediaType,
	problem.Invalid:              http.StatusUnprocessableEntity,
	problem.TooManyRequests:      http.StatusTooManyRequests,
	problem.Unavailable:          http.StatusServiceUnavailable,
}

// Status is the HTTP status of a kind of problem.
func Status(kind problem.Kind) int { return statusOf[kind] }

// TakesGzip reads an Accept-Encoding (RFC 9110 §12.5.3): a coding with a weight of 0 is one that the client does not take.
func TakesGzip(accept string) bool {
	for coding := range strings.SplitSeq(accept, ",") {
		name, weight, _ := strings.Cut(strings.ToLower(strings.ReplaceAll(coding, " ", "")), ";")
		if name == "gzip" {
			q, err := strconv.ParseFloat(strings.TrimPrefix(weight, "q="), 64)
			return weight == "" || err == nil && q > 0
		}
	}
	return false
}

// Gzip compresses an answer, at a level of compress/gzip.
func Gzip(content []byte, level int) []byte {
	var packed bytes.Buffer
	zip, err := gzip.NewWriterLevel(&packed, level)
	if err != nil {
		panic(err) // no such level
	}
	_, _ = zip.Write(content) // a buffer takes everything
	_ = zip.Close()
	return packed.Bytes()
}

// ParseID takes the canonical form of a UUID only, in either case (RFC 9562 §4); problem.ErrNotFound otherwise.
func ParseID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || id.String() != strings.ToLower(text) {
		return uuid.Nil, problem.ErrNotFound
	}
	return id, nil
}
