package codec_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/codec"
)

func newKeyset(t *testing.T) (text string, c *codec.Codec) {
	t.Helper()
	text, err := db.NewKeyset()
	require.NoError(t, err)
	return text, parsed(t, text)
}

func parsed(t *testing.T, text string) *codec.Codec {
	t.Helper()
	keyset, err := db.ParseKeyset(text)
	require.NoError(t, err)
	return codec.New(keyset)
}

// TestCodec_InWorkflows: what does not open has a workflow's step repeated, and is an error for all others.
func TestCodec_InWorkflows(t *testing.T) {
	t.Parallel()
	_, c := newKeyset(t)
	_, other := newKeyset(t)
	sealed, err := c.Converter().ToPayloads("QED")
	require.NoError(t, err)
	for want, convert := range map[string]converter.DataConverter{
		"a sealed payload does not open: this process has no MATHUB_CODEC_KEYSET":                                              (*codec.Codec)(nil).Converter(),
		"a sealed payload does not open: MATHUB_CODEC_KEYSET cannot decrypt a payload: it must hold every key that sealed one": other.Converter(),
	} {
		var text string
		require.EqualError(t, convert.FromPayloads(sealed, &text), want)
		require.EqualError(t, convert.(workflow.ContextAware).WithContext(t.Context()).FromPayloads(sealed, &text), want) //nolint:forcetypeassert // it panics
		inWorkflow := convert.(workflow.ContextAware).WithWorkflowContext(nil)                                            //nolint:forcetypeassert // it panics
		require.PanicsWithError(t, want, func() { _ = inWorkflow.FromPayloads(sealed, &text) })
		require.PanicsWithError(t, want, func() { _ = inWorkflow.FromPayload(sealed.GetPayloads()[0], &text) })
		var number int
		plain, err := converter.GetDefaultDataConverter().ToPayload("no number")
		require.NoError(t, err)
		require.Error(t, inWorkflow.FromPayload(plain, &number), "any other fault is the workflow's own")
		require.NoError(t, inWorkflow.FromPayload(plain, &text))
	}
	plain, err := (*codec.Codec)(nil).Converter().ToPayload("as ever")
	require.NoError(t, err)
	require.Equal(t, converter.MetadataEncodingJSON, string(plain.GetMetadata()[converter.MetadataEncoding]))
}

func TestCodec(t *testing.T) {
	t.Parallel()
	text, c := newKeyset(t)
	convert := c.Converter()
	sealed, err := convert.ToPayloads(map[string]string{"body": "QED"}, converter.NewRawValue(&commonpb.Payload{
		Metadata: map[string][]byte{"encoding": []byte("json/plain"), "more": {1}}, Data: []byte(`{"n":1.10}`),
	}))
	require.NoError(t, err)
	for _, p := range sealed.GetPayloads() {
		require.Equal(t, codec.Encoding, string(p.GetMetadata()["encoding"]))
		require.Len(t, p.GetMetadata(), 1)
		require.NotContains(t, string(p.GetData()), "QED")
	}
	var data map[string]string
	var raw converter.RawValue
	require.NoError(t, convert.FromPayloads(sealed, &data, &raw))
	require.Equal(t, map[string]string{"body": "QED"}, data)
	require.Equal(t, `{"n":1.10}`, string(raw.Payload().GetData()))
	require.Equal(t, []byte{1}, raw.Payload().GetMetadata()["more"])

	t.Run("what is not sealed passes", func(t *testing.T) {
		plain, err := converter.GetDefaultDataConverter().ToPayloads("as another SDK has it")
		require.NoError(t, err)
		var text string
		require.NoError(t, convert.FromPayloads(plain, &text))
		require.Equal(t, "as another SDK has it", text)
	})
	t.Run("a rotated keyset opens both", func(t *testing.T) {
		rotated, err := db.RotateKeyset(text, false)
		require.NoError(t, err)
		var data map[string]string
		require.NoError(t, parsed(t, rotated).Converter().FromPayload(sealed.GetPayloads()[0], &data))
		require.Equal(t, "QED", data["body"])
	})
	t.Run("another keyset opens nothing, nor one what was changed", func(t *testing.T) {
		_, other := newKeyset(t)
		var data map[string]string
		require.ErrorContains(t, other.Converter().FromPayload(sealed.GetPayloads()[0], &data), "MATHUB_CODEC_KEYSET cannot decrypt")
		changed := bytes.Clone(sealed.GetPayloads()[0].GetData())
		changed[len(changed)-1] ^= 1
		_, err := c.Decode([]*commonpb.Payload{{Metadata: sealed.GetPayloads()[0].GetMetadata(), Data: changed}})
		require.Error(t, err)
	})
}

// TestHandler decodes for the Web UI's pages and no others.
func TestHandler(t *testing.T) {
	t.Parallel()
	_, c := newKeyset(t)
	handler := c.Handler("http://127.0.0.1:8233")
	sealed, err := c.Converter().ToPayloads("QED")
	require.NoError(t, err)
	body, err := protojson.Marshal(sealed)
	require.NoError(t, err)
	ask := func(method, path, origin string, headers ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Origin", origin)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	w := ask(http.MethodPost, "/codec/decode", "http://127.0.0.1:8233")
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	require.Equal(t, "http://127.0.0.1:8233", w.Header().Get("Access-Control-Allow-Origin"))
	var opened commonpb.Payloads
	require.NoError(t, protojson.Unmarshal(w.Body.Bytes(), &opened))
	require.Equal(t, `"QED"`, string(opened.GetPayloads()[0].GetData()))

	preflight := []string{"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type,x-namespace"}
	require.Equal(t, "http://127.0.0.1:8233", ask(http.MethodOptions, "/codec/decode", "http://127.0.0.1:8233", preflight...).Header().Get("Access-Control-Allow-Origin"))
	require.Empty(t, ask(http.MethodOptions, "/codec/decode", "https://evil.example", preflight...).Header().Get("Access-Control-Allow-Origin"))
	require.Empty(t, ask(http.MethodPost, "/codec/decode", "https://evil.example").Header().Get("Access-Control-Allow-Origin"), "its page cannot read the answer")
	require.Equal(t, http.StatusNotFound, ask(http.MethodPost, "/codec/encode", "http://127.0.0.1:8233").Code, "it seals nothing for others")
	body = bytes.Repeat([]byte(" "), 33<<20)
	require.Equal(t, http.StatusBadRequest, ask(http.MethodPost, "/codec/decode", "http://127.0.0.1:8233").Code)
}
