package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/sync/semaphore"

	"github.com/mathub/webhooks/webhook"
)

// timestamp is a time as the contract writes it: RFC 3339, UTC, milliseconds.
type timestamp time.Time

// MarshalJSON writes the time as webhook.FormatTime does.
func (t timestamp) MarshalJSON() ([]byte, error) {
	return []byte(`"` + webhook.FormatTime(time.Time(t)) + `"`), nil
}

// rawJSON is JSON that goes out as it stands.
type rawJSON = json.RawMessage

// reply is a success.
type reply struct {
	status   int
	location string
	body     any
}

func ok(body any) reply       { return reply{status: http.StatusOK, body: body} }
func accepted(body any) reply { return reply{status: http.StatusAccepted, body: body} }
func noContent() reply        { return reply{status: http.StatusNoContent} }
func notModified() reply      { return reply{status: http.StatusNotModified} }
func created(location string, body any) reply {
	return reply{status: http.StatusCreated, location: location, body: body}
}

// answer runs a handler and writes what it returns.
func (s *server) answer(c *gin.Context, handle func() (reply, error)) {
	r, err := handle()
	if err != nil {
		fail(c, s.log, err)
		return
	}
	if r.location != "" {
		c.Header("Location", s.prefix(c)+r.location)
	}
	if r.body == nil {
		c.Status(r.status)
		return
	}
	body := encode(r.body)
	s.fairUse.charge(c, len(body))
	if n := int64(len(body)); n > largeBytes {
		if large := s.largeFor(c, r.body); large != nil {
			// However many read their answers slowly, the answers take no more memory than this.
			if !large.TryAcquire(n) {
				fail(c, s.log, &Error{code: unavailable, Detail: "Too many large answers are being read. Try again, or ask for less."})
				return
			}
			defer large.Release(n)
		}
		_ = http.NewResponseController(c.Writer).SetWriteDeadline(time.Now().Add(largeTime)) // or the server's holds
	}
	c.Data(r.status, "application/json", body)
}

// largeFor is what a large answer has to have room in; nil: it is sent in any case. What is shared takes no memory of its
// own, so that who has no key keeps nobody from an answer by reading it slowly, and Mathub's backend has a room of its own.
// It is always told what a change came to, such as which events were accepted.
func (s *server) largeFor(c *gin.Context, body any) *semaphore.Weighted {
	_, isShared := body.(shared)
	backend := s.fromBackend(c)
	switch {
	case isShared, backend && c.Request.Method != http.MethodGet:
		return nil
	case backend:
		return s.largeOwn
	}
	return s.large
}

const (
	// maxListBytes bounds a list; a single larger item is answered alone.
	maxListBytes = 1 << 20

	// maxLargeBytes bounds, in a process, all answers that are being sent to bots and are larger than largeBytes, and again
	// those to Mathub's backend; largeTime bounds the sending of one.
	maxLargeBytes = 64 << 20
	largeBytes    = 64 << 10
	largeTime     = 30 * time.Second
)

// encoded is JSON that encode has made.
type encoded []byte

// shared is JSON that is the same for all who ask for it.
type shared []byte

// encode writes v as JSON without escaping < > &, so that payloads go out byte for byte.
func encode(v any) []byte {
	switch v := v.(type) {
	case encoded:
		return v
	case shared:
		return v
	case Delivery:
		payload := v.Payload
		v.Payload = rawJSON("null")
		return splice(marshal(v), "payload", payload)
	case EventPage:
		list := []byte("[")
		for i, e := range v.Events {
			if i > 0 {
				list = append(list, ',')
			}
			list = append(list, e...)
		}
		v.Events = nil
		return splice(marshal(v), "events", append(list, ']'))
	}
	return marshal(v)
}

// splice gives a member that is null its value, which goes out as it stands: encoding/json would read all of a payload once
// more. No string before it can look like it, as a string's quotes are escaped.
func splice(object []byte, member string, value []byte) []byte {
	name := []byte(`"` + member + `":`)
	head, tail, _ := bytes.Cut(object, append(name, "null"...))
	return slices.Concat(head, name, value, tail)
}

func marshal(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // our own types always encode
	}
	return b.Bytes()
}

// encodeList writes as many of a list's items as it may have, and says how many those are.
func encodeList[T any](items []T) (list encoded, n int) {
	list = append(list, '[')
	for n < len(items) {
		item := bytes.TrimSuffix(encode(items[n]), []byte("\n"))
		if n > 0 && len(list)+len(item)+len(",]\n") > maxListBytes {
			break
		}
		if n > 0 {
			list = append(list, ',')
		}
		list = append(list, item...)
		n++
	}
	return append(list, "]\n"...), n
}
