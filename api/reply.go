package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

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
	write(c, r.status, "application/json", r.body)
}

// write encodes v without escaping < > &, so that payloads go out byte for byte.
func write(c *gin.Context, status int, contentType string, v any) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // our own types always encode
	}
	c.Data(status, contentType, b.Bytes())
}
