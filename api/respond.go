package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mathub/webhooks/internal/problem"
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
	unsent   int // bytes that were read for a body that is left away
}

func ok(body any) reply       { return reply{status: http.StatusOK, body: body} }
func accepted(body any) reply { return reply{status: http.StatusAccepted, body: body} }
func noContent() reply        { return reply{status: http.StatusNoContent} }
func notModified(unsent int) reply {
	return reply{status: http.StatusNotModified, unsent: unsent}
}

func created(location string, body any) reply {
	return reply{status: http.StatusCreated, location: location, body: body}
}

const jsonType = "application/json"

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
		s.fairUse.charge(c, r.unsent)
		c.Status(r.status)
		return
	}
	body := encode(r.body)
	if isHead(c) { // nothing of the body is sent
		s.fairUse.charge(c, len(body))
		c.Header("Content-Type", jsonType)
		c.Header("Content-Length", strconv.Itoa(len(body)))
		c.Status(r.status)
		return
	}
	if n := int64(len(body)); n > largeBytes {
		end, err := s.beginLarge(c, n)
		if err != nil {
			fail(c, s.log, err)
			return
		}
		defer end()
	}
	s.fairUse.charge(c, len(body))
	c.Data(r.status, jsonType, body)
}

// beginLarge finds room for a large answer until end is called. However many read their answers slowly, the answers take no
// more memory than there is room, and no bot takes more than its share of it. When the room is full, the new answer gets the
// place of one that has been sent for largeGrace.
//
// A change is answered in any case. Mathub's backend has a room of its own. Answers without a key are small, or memory that
// all share: strangers take no room.
func (s *server) beginLarge(c *gin.Context, n int64) (end func(), err error) {
	controller := http.NewResponseController(c.Writer)
	_ = controller.SetWriteDeadline(time.Now().Add(largeTime)) // or the server's holds
	if c.Request.Method != http.MethodGet {
		return func() {}, nil
	}
	room, bot := s.large, botID(c)
	if s.fromBackend(c) {
		room = s.largeOwn
	}
	if bot != "" {
		ctx, cancel := context.WithTimeout(c.Request.Context(), largePatience)
		defer cancel()
		if !s.largeOfBot.begin(ctx, bot) {
			return nil, &problem.Error{Kind: problem.TooManyRequests, Detail: fmt.Sprintf("This bot is reading %d large answers, the most allowed. Finish reading one, or ask for a smaller page.", maxLargePerBot)}
		}
	}
	leave, found := room.enter(n, func() { _ = controller.SetWriteDeadline(time.Unix(1, 0)) })
	if !found {
		s.endLarge(bot)
		return nil, &problem.Error{Kind: problem.Unavailable, Detail: "Too many large answers are being read. Try again, or ask for a smaller page."}
	}
	return func() {
		leave()
		s.endLarge(bot)
	}, nil
}

func (s *server) endLarge(bot string) {
	if bot != "" {
		s.largeOfBot.end(bot)
	}
}

const (
	// maxListBytes bounds a list; a single larger item is answered alone.
	maxListBytes = 1 << 20

	// maxLargeBytes bounds the bytes of answers larger than largeBytes that a process is sending to bots, and separately to
	// Mathub's backend. largeTime bounds the sending of one, or largeGrace while others need its room.
	maxLargeBytes = 64 << 20
	largeBytes    = 64 << 10
	largeTime     = 30 * time.Second
	largeGrace    = 2 * time.Second

	// maxLargePerBot is how many of them one bot has. A further one waits up to largePatience.
	maxLargePerBot = 2
	largePatience  = 500 * time.Millisecond
)

// encoded is JSON that encode has made.
type encoded []byte

// encode writes v as JSON without escaping < > &, so that payloads go out byte for byte.
func encode(v any) []byte {
	switch v := v.(type) {
	case encoded:
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
