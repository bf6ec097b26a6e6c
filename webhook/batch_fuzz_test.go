package webhook_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// FuzzParseBatch holds ParseBatch to what it promises: what it takes is valid, each of its events is taken alone as well,
// and what a door makes of it is read again; what it refuses, it refuses with one of its two errors, which are bounded.
// ParseAcceptedBatch reads what any Temporal client may have started, and takes all that it can.
func FuzzParseBatch(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"events":[]}`, `{"events":null}`, batchOf(plain), batchOf(plain, plain), batchOf("null", plain), batchOf(plain) + "x",
		batchOf(`{"id":"a","event":"post.created","data":{}}`, `{"id":"a","event":"post.created","data":{}}`),
		batchOf(`{"event":"mention","data":{"n":-0.0E+10,"s":"\ud83d\ude00\u0000"},"botIds":["a","a"]}`), batchOf("{\"event\":\"\xff\"}"),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		list := bytes.TrimSuffix(bytes.TrimPrefix(raw, []byte(`{"events":`)), []byte("}"))
		if events, faults, err := webhook.ParseAcceptedBatch(list); err == nil {
			require.NotEmpty(t, events)
			require.LessOrEqual(t, len(events), webhook.MaxBatchEvents)
			for i, e := range events {
				if faults[i] == nil {
					alone, err := webhook.ParseAccepted(e.JSON())
					require.NoError(t, err)
					require.Equal(t, e, alone)
				}
			}
		}
		events, err := webhook.ParseBatch(raw)
		if err != nil {
			var syntax *webhook.SyntaxError
			var invalid *webhook.InvalidError
			switch {
			case errors.As(err, &syntax):
			case errors.As(err, &invalid):
				require.NotEmpty(t, invalid.Fields)
				require.LessOrEqual(t, len(invalid.Fields), 20)
			default:
				t.Fatalf("an error of another kind: %v", err)
			}
			require.Less(t, len(err.Error()), 8000)
			return
		}
		require.NoError(t, webhook.ValidateBatch(events))
		require.Equal(t, len(events), webhook.BatchLen(events))
		ids := map[string]bool{}
		for _, e := range events {
			require.False(t, e.ID != "" && ids[e.ID])
			ids[e.ID] = true
			alone, err := webhook.ParseEvent(e.JSON())
			require.NoError(t, err)
			require.Equal(t, e, alone)
		}
		accepted, faults, err := webhook.ParseAcceptedBatch(webhook.BatchJSON(events))
		require.NoError(t, err)
		require.Empty(t, faults)
		require.Equal(t, events, accepted)
	})
}
