package webhook_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// FuzzParseEvent holds ParseEvent to what it promises: whatever it takes is valid, can be encoded and read again, and
// keeps every token of data; whatever it refuses, it refuses with one of its two errors, which are bounded.
func FuzzParseEvent(f *testing.F) {
	for _, spec := range webhook.Catalog() {
		f.Add(webhook.Event{ID: "e", Type: spec.Type, Timestamp: "2025-03-20T10:30:00.000Z", Data: spec.ExampleData(), BotIDs: []string{"a"}}.JSON())
	}
	for _, s := range []string{
		`{}`, `[]`, `{"event":"mention","data":{},"botIds":["a","a",1]}`, `{"event":"post.created","data":{"n":-0.0E+10,"s":"\ud83d\ude00\u0000"}}`,
		`{"event":"post.created","data":{"a":1,"a":2}}`, `{"Event":"post.created"}`, "\ufeff{}", `{"event":"post.created","data":{"a":"\ud800"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := webhook.ParseEvent(raw)
		if err != nil {
			var syntax *webhook.SyntaxError
			var invalid *webhook.InvalidError
			switch {
			case errors.As(err, &syntax):
			case errors.As(err, &invalid):
				require.NotEmpty(t, invalid.Fields)
			default:
				t.Fatalf("an error of another kind: %v", err)
			}
			require.Less(t, len(err.Error()), 8000)
			return
		}
		require.True(t, json.Valid(raw), "encoding/json takes it too")
		require.NoError(t, e.Validate())

		again, err := webhook.ParseEvent(e.JSON())
		require.NoError(t, err)
		require.Equal(t, e, again)

		complete := e.Complete(time.Unix(vectorTime, 0))
		require.NoError(t, complete.Validate())
		body := complete.Body()
		require.Equal(t, body, complete.Body())
		require.Equal(t, tokens(t, e.Data), tokens(t, data(t, body)))
	})
}

func data(t *testing.T, body []byte) []byte {
	var envelope struct{ Data json.RawMessage }
	require.NoError(t, json.Unmarshal(body, &envelope))
	return envelope.Data
}

// tokens is JSON without white space outside of strings, done without any JSON library.
func tokens(t *testing.T, raw []byte) string {
	t.Helper()
	var b strings.Builder
	inString := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case inString && c == '\\':
			b.WriteByte(c)
			i++
			c = raw[i]
		case c == '"':
			inString = !inString
		case !inString && strings.ContainsRune(" \t\r\n", rune(c)):
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

func BenchmarkParseEvent(b *testing.B) {
	for _, size := range []int{100, 10_000, 200_000} {
		raw := webhook.Event{ID: "e", Type: webhook.PostCreated, Data: fmt.Appendf(nil, `{"body":%q}`, strings.Repeat("x", size))}.JSON()
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				e, err := webhook.ParseEvent(raw)
				if err != nil {
					b.Fatal(err)
				}
				e.Body()
			}
		})
	}
}
