package history

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2/hpack"

	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/webhook"
)

// What the history keeps of a response's headers: enough to see which proxy or framework answered, and little enough to
// be kept with every delivery.
const (
	maxResponseHeaders     = 50
	maxResponseHeaderBytes = 4096 // of names and values
)

// Exchange is what the history keeps of a delivery's HTTP exchange beside the columns of its row.
type Exchange struct {
	// Request are the headers as they were sent, without those of HTTP itself, the signatures and the values of the webhook's own.
	Request http.Header
	// Response are the receiver's headers, without what could be a credential; nil where no response came.
	Response http.Header
	Timings  egress.Timings
	// Total is how long the exchange took, to the microsecond as the timings are.
	Total time.Duration
}

// exchangeVersion begins a stored exchange, so that its form can change.
const exchangeVersion = 1

// derived are the request's headers that a row's other columns tell.
var derived = []string{"Content-Type", "X-Mathub-Event", "X-Mathub-Delivery", "Webhook-Id"}

// shortNames stand for what HPACK would spell out in every row. No header can have such a name.
var shortNames = map[string]string{"User-Agent": ":u", "Webhook-Timestamp": ":t"}

var longNames = func() map[string]string {
	long := make(map[string]string, len(shortNames))
	for name, short := range shortNames {
		long[short] = name
	}
	return long
}()

// exchangeEncoder is reused, as it runs once a delivery.
type exchangeEncoder struct {
	out   bytes.Buffer
	hpack *hpack.Encoder
}

var exchangeEncoders = sync.Pool{New: func() any {
	e := new(exchangeEncoder)
	e.hpack = hpack.NewEncoder(&e.out)
	return e
}}

// EncodeExchange writes what the row does not tell otherwise: a version, the timings in microseconds, and the headers
// as HPACK (RFC 7541) writes them, which HTTP's usual names cost a byte or two. hide_secrets.go says what is left out.
func EncodeExchange(sent Sent, resp egress.Response) []byte {
	e := exchangeEncoders.Get().(*exchangeEncoder)
	defer exchangeEncoders.Put(e)
	e.out.Reset()
	for name, values := range sent.Header {
		if slices.Contains(derived, name) || slices.Contains(signatureHeaders, name) {
			continue
		}
		if _, custom := sent.Custom[name]; custom {
			values = []string{hidden}
		}
		for _, value := range values {
			e.field(name, value)
		}
	}
	requestBytes := e.out.Len()
	if resp.Header != nil {
		e.response(resp.Header, sent)
	}
	fields := e.out.Bytes()

	b := make([]byte, 0, 1+6*binary.MaxVarintLen64+len(fields)+1)
	b = append(b, exchangeVersion)
	t := resp.Timings
	for _, d := range []time.Duration{t.DNS, t.Connect, t.TLS, t.FirstByte, resp.Duration} {
		// Rounded up: 0 is for what did not happen.
		b = binary.AppendUvarint(b, uint64((d+time.Microsecond-1)/time.Microsecond))
	}
	b = binary.AppendUvarint(b, uint64(requestBytes))
	b = append(b, fields[:requestBytes]...)
	if resp.Header != nil {
		b = append(b, 1)
		b = append(b, fields[requestBytes:]...)
	}
	return b
}

// response writes the headers ordered by name, because net/http keeps no other order. It leaves out what does not fit, and
// hides in the rest what an answer must not show.
func (e *exchangeEncoder) response(header http.Header, sent Sent) {
	var names, values []string
	size := 0
	for _, name := range slices.Sorted(maps.Keys(header)) {
		if len(values) == maxResponseHeaders {
			break
		}
		if holdsCredential(name) {
			continue
		}
		for _, value := range header[name] {
			if more := len(name) + len(value); len(values) < maxResponseHeaders && size+more <= maxResponseHeaderBytes {
				size += more
				names, values = append(names, name), append(values, value)
			}
		}
	}
	hide(values, sent.hidden(values), func(string) string { return hidden })
	for i, name := range names {
		e.field(name, values[i])
	}
}

func (e *exchangeEncoder) field(name, value string) {
	short, ok := shortNames[name]
	if !ok {
		short = strings.ToLower(name)
	}
	// Sensitive: never put into the encoder's table, so that what one row says does not depend on another.
	_ = e.hpack.WriteField(hpack.HeaderField{Name: short, Value: value, Sensitive: true}) // a buffer takes everything
}

var errExchange = errors.New("stored exchange is not readable")

// DecodeExchange reads what a row keeps of its exchange. d is the delivery, of which ID, EventID and Type are needed.
func DecodeExchange(stored []byte, d webhook.Delivery) (Exchange, error) {
	if len(stored) == 0 || stored[0] != exchangeVersion {
		return Exchange{}, errExchange
	}
	rest := stored[1:]
	var numbers [6]uint64
	for i := range numbers {
		n, size := binary.Uvarint(rest)
		if size <= 0 {
			return Exchange{}, errExchange
		}
		numbers[i], rest = n, rest[size:]
	}
	requestBytes := numbers[5]
	if requestBytes > uint64(len(rest)) {
		return Exchange{}, errExchange
	}
	phase := func(i int) time.Duration { return time.Duration(numbers[i]) * time.Microsecond }
	x := Exchange{Timings: egress.Timings{DNS: phase(0), Connect: phase(1), TLS: phase(2), FirstByte: phase(3)}, Total: phase(4)}
	var err error
	if x.Request, err = decodeFields(rest[:requestBytes]); err != nil {
		return Exchange{}, err
	}
	known := webhook.Headers(d)
	for _, name := range derived {
		x.Request[name] = known[name]
	}
	if rest = rest[requestBytes:]; len(rest) > 0 {
		if x.Response, err = decodeFields(rest[1:]); err != nil {
			return Exchange{}, err
		}
	}
	return x, nil
}

func decodeFields(block []byte) (http.Header, error) {
	fields, err := hpack.NewDecoder(0, nil).DecodeFull(block)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errExchange, err)
	}
	h := http.Header{}
	for _, f := range fields {
		name, ok := longNames[f.Name]
		if !ok {
			name = http.CanonicalHeaderKey(f.Name)
		}
		h[name] = append(h[name], f.Value)
	}
	return h, nil
}
