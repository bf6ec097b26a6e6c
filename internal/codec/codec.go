// Package codec seals what the product hands to Temporal, so that its histories show no event's data to who has not the keyset.
package codec

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/rs/cors"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/proto"

	"github.com/mathub/webhooks/db"
)

// Encoding is the encoding of a sealed payload, as its metadata names it.
const Encoding = "binary/mathub-sealed"

// Codec seals payloads with a keyset of `keyset new` (AES-256-GCM), and opens those that any of its keys sealed. What is not
// sealed passes as it is: histories of before, and what other SDKs emit.
type Codec struct{ keyset *db.Keyset }

// Parse reads the value of MATHUB_CODEC_KEYSET. An empty one is nil: nothing is sealed.
func Parse(text string) (*Codec, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // as its comment says
	}
	keyset, err := db.ParseKeyset(text)
	if err != nil {
		return nil, fmt.Errorf("MATHUB_CODEC_KEYSET: %w", err)
	}
	return New(keyset), nil
}

// New returns the codec of a keyset.
func New(keyset *db.Keyset) *Codec { return &Codec{keyset} }

// Converter converts values as Temporal's SDKs do, and seals them. That of a nil *Codec seals nothing, and opens nothing.
func (c *Codec) Converter() converter.DataConverter {
	return patient{converter.NewCodecDataConverter(converter.GetDefaultDataConverter(), c)}
}

// patient has a workflow wait whose payload this process cannot open, as one cannot that has yet to get the keys: it panics in the
// workflow's code, and Temporal repeats the step until a process makes it. With an error the workflow would fail, and what it is to
// deliver would be lost.
type patient struct{ converter.DataConverter }

// WithContext implements workflow.ContextAware: outside of workflows, an error is returned.
func (p patient) WithContext(context.Context) converter.DataConverter { return p }

// WithWorkflowContext implements workflow.ContextAware.
func (p patient) WithWorkflowContext(workflow.Context) converter.DataConverter {
	return inWorkflow(p)
}

type inWorkflow struct{ converter.DataConverter }

// FromPayload implements converter.DataConverter.
func (w inWorkflow) FromPayload(payload *commonpb.Payload, into any) error {
	return orWait(w.DataConverter.FromPayload(payload, into))
}

// FromPayloads implements converter.DataConverter.
func (w inWorkflow) FromPayloads(payloads *commonpb.Payloads, into ...any) error {
	return orWait(w.DataConverter.FromPayloads(payloads, into...))
}

func orWait(err error) error {
	if errors.Is(err, ErrSealed) {
		panic(err)
	}
	return err
}

// ErrSealed is in the errors of what this process cannot open.
var ErrSealed = errors.New("a sealed payload does not open")

// Encode implements converter.PayloadCodec.
func (c *Codec) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	if c == nil {
		return payloads, nil
	}
	sealed := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		plain, err := proto.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("seal a payload: %w", err)
		}
		data, err := c.keyset.SealPayload(plain)
		if err != nil {
			return nil, err
		}
		sealed[i] = &commonpb.Payload{Metadata: map[string][]byte{converter.MetadataEncoding: []byte(Encoding)}, Data: data}
	}
	return sealed, nil
}

// Decode implements converter.PayloadCodec.
func (c *Codec) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	opened := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if string(p.GetMetadata()[converter.MetadataEncoding]) != Encoding {
			opened[i] = p
			continue
		}
		if c == nil {
			return nil, fmt.Errorf("%w: this process has no MATHUB_CODEC_KEYSET", ErrSealed)
		}
		plain, err := c.keyset.OpenPayload(p.GetData())
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSealed, err)
		}
		opened[i] = &commonpb.Payload{}
		if err := proto.Unmarshal(plain, opened[i]); err != nil {
			return nil, errors.New("a sealed payload holds none")
		}
	}
	return opened, nil
}

// Handler is the codec server that Temporal's Web UI asks, from the browser, to show sealed payloads: POST …/decode, for pages of
// one origin, such as http://127.0.0.1:8233; "": for none. It encodes nothing.
func (c *Codec) Handler(origin string) http.Handler {
	decode := http.NewServeMux()
	decode.Handle("POST /codec/decode", http.MaxBytesHandler(converter.NewPayloadCodecHTTPHandler(c), maxRequest))
	return cors.New(cors.Options{
		AllowedOrigins: []string{origin}, AllowedMethods: []string{http.MethodPost}, AllowedHeaders: []string{"Content-Type", "X-Namespace", "Authorization"},
	}).Handler(decode)
}

// maxRequest is more than a page of a history holds.
const maxRequest = 32 << 20
