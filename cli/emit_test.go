package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

// batchService is the API's POST /events/batch: it reads as the API reads, and knows the ids it has accepted.
type batchService struct {
	mu      sync.Mutex
	batches [][]webhook.Event
	seen    map[string]bool
	refuses func(n int, w http.ResponseWriter) bool // the n-th call
	calls   int
}

func newBatchService(t *testing.T) (*batchService, *Emit) {
	s := &batchService{seen: map[string]bool{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, &Emit{ServiceAPIFlags: ServiceAPIFlags{API: server.URL}, ServiceToken: "t0ken", Timeout: 20 * time.Second}
}

func (s *batchService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	if s.refuses != nil && s.refuses(s.calls, w) {
		return
	}
	raw, _ := io.ReadAll(r.Body)
	events, err := webhook.ParseBatch(raw)
	if err != nil || r.URL.Path != "/api/internal/v1/events/batch" {
		w.WriteHeader(http.StatusTeapot)
		return
	}
	receipts := make([]emit.Receipt, len(events))
	for i, e := range events {
		receipts[i] = emit.Receipt{ID: e.ID, WorkflowID: fmt.Sprintf("events-%d", len(s.batches)), Duplicate: s.seen[e.ID]}
		s.seen[e.ID] = true
	}
	s.batches = append(s.batches, events)
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(receipts)
}

// linesOf are n events, one on a line.
func linesOf(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"id":"e%d","event":"post.created","data":{"n":%d.10}}`+"\n", i+1, i+1)
	}
	return b.String()
}

func (c *Emit) emitText(t *testing.T, input string) (output string, err error) {
	t.Helper()
	var b strings.Builder
	err = c.emit(t.Context(), strings.NewReader(input), &b)
	return b.String(), err
}

func TestLinesAreEmittedInBatches(t *testing.T) {
	t.Parallel()
	s, c := newBatchService(t)
	output, err := c.emitText(t, linesOf(250))
	require.NoError(t, err)
	require.Equal(t, "250 events accepted, 0 of them duplicates\n", output)
	n := 0
	var sizes []int
	for _, batch := range s.batches {
		sizes = append(sizes, len(batch))
		for _, e := range batch {
			n++
			require.Equal(t, fmt.Sprintf("e%d", n), e.ID, "in their order")
			require.Equal(t, fmt.Sprintf(`{"n":%d.10}`, n), string(e.Data), "to the digit")
			require.Empty(t, e.Timestamp, "the service dates it: a file that is emitted again says the same")
		}
	}
	require.Equal(t, []int{100, 100, 50}, sizes)

	output, err = c.emitText(t, linesOf(3)+linesOf(2)+linesOf(1)+`{"id":"new","event":"post.created","data":{}}`)
	require.NoError(t, err, "one id twice is no fault")
	require.Equal(t, "7 events accepted, 6 of them duplicates\n", output)

	output, err = c.emitText(t, "\ufeff"+`{"id":null,"event":"post.created","timestamp":null,"data":{},"botIds":null}`+"\r\n")
	require.NoError(t, err, "as programs on Windows write it")
	require.Equal(t, "1 events accepted, 0 of them duplicates\n", output)

	c.JSON = true
	output, err = c.emitText(t, linesOf(1)+"\r\n  \n"+`{"event":"mention","timestamp":"2025-03-20T11:30:00+01:00","data":{},"botIds":["a"]}`+"\r\n")
	require.NoError(t, err)
	last := s.batches[len(s.batches)-1]
	require.Equal(t, "2025-03-20T10:30:00.000Z", last[1].Timestamp)
	require.Equal(t, fmt.Sprintf(`{"id":"e1","workflowId":"events-%[1]d","duplicate":true}
{"id":%[2]q,"workflowId":"events-%[1]d","duplicate":false}
`, len(s.batches)-1, last[1].ID), output)

	output, err = c.emitText(t, "\n")
	require.NoError(t, err)
	require.Empty(t, output)
}

func TestABatchOfLongLinesIsNoLargerThanTheServiceTakes(t *testing.T) {
	t.Parallel()
	s, c := newBatchService(t)
	line := fmt.Sprintf(`{"event":"post.created","data":{"a":"%s"}}`+"\n", strings.Repeat("x", 250_000))
	output, err := c.emitText(t, strings.Repeat(line, 10))
	require.NoError(t, err)
	require.Equal(t, "10 events accepted, 0 of them duplicates\n", output)
	require.Len(t, s.batches, 3)
}

func TestALineAtFaultIsNamedBeforeItsBatchIsSent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ line, want string }{
		"no JSON":      {`post.created`, "malformed JSON"},
		"no object":    {`["post.created"]`, "must be a JSON object"},
		"unknown type": {`{"event":"post.deleted","data":{}}`, "event: is not an event type"},
		"unknown name": {`{"event":"post.created","data":{},"urgent":true}`, `unknown field "urgent"`},
		"no audience":  {`{"event":"mention","data":{}}`, "botIds: is required"},
		"two events":   {`{"event":"post.created","data":{}} {"event":"post.created","data":{}}`, "unexpected data after"},
		"too large":    {`{"event":"post.created","data":{"a":"` + strings.Repeat("x", webhook.MaxEventBytes) + `"}}`, "at most 262144 bytes"},
		"just too large once it has an id": {
			`{"event":"post.created","data":{"a":"` + strings.Repeat("x", webhook.MaxEventBytes-len(`{"event":"post.created","data":{"a":""}}`)) + `"}}`, "at most 262144 bytes",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, command := newBatchService(t)
			output, err := command.emitText(t, linesOf(149)+c.line+"\n"+linesOf(100))
			require.ErrorContains(t, err, "line 150: ")
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, "nothing from line 101 on is emitted")
			require.Equal(t, "100 events accepted, 0 of them duplicates\n", output)
			require.Len(t, s.batches, 1)

			s, command = newBatchService(t)
			_, err = command.emitText(t, c.line)
			require.ErrorContains(t, err, "nothing from line 1 on is emitted")
			require.Empty(t, s.batches)
		})
	}
}

func TestWhatTheServiceRefusesIsNamedByItsLine(t *testing.T) {
	t.Parallel()
	s, c := newBatchService(t)
	s.refuses = func(n int, w http.ResponseWriter) bool {
		if n == 2 {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"detail":"The request is invalid; see errors.","errors":[{"field":"events[3].data","message":"is new here"},{"field":"events","message":"and more"}]}`)
		}
		return n == 2
	}
	output, err := c.emitText(t, "\n"+linesOf(150))
	require.ErrorContains(t, err, "lines 102 to 151: ")
	require.ErrorContains(t, err, "HTTP 422: The request is invalid; see errors.")
	require.ErrorContains(t, err, "\n  line 105: data is new here")
	require.Equal(t, "100 events accepted, 0 of them duplicates\n", output)
	require.Equal(t, 2, s.calls)
}

func TestWhatMayPassIsTriedAgainForAWhile(t *testing.T) {
	t.Parallel()
	s, c := newBatchService(t)
	s.refuses = func(n int, w http.ResponseWriter) bool {
		if n == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return n == 1
	}
	_, err := c.emitText(t, linesOf(2))
	require.NoError(t, err)
	require.Equal(t, 2, s.calls)

	s.refuses = func(_ int, w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	c.Timeout = 2 * time.Second // many times what a call takes, also on a busy machine
	_, err = c.emitText(t, linesOf(2))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "HTTP 503")
}

func TestInputThatBreaksOffOrHangs(t *testing.T) {
	t.Parallel()
	s, c := newBatchService(t)
	broken := errors.New("the disk is gone")
	err := c.emit(t.Context(), io.MultiReader(strings.NewReader(linesOf(2)), iotest.ErrReader(broken)), io.Discard)
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "line 3: ")
	require.Empty(t, s.batches)

	input, more := io.Pipe() // as a terminal at which nobody types
	defer more.Close()       //nolint:errcheck // it does not fail
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.emit(ctx, input, io.Discard) }()
	_, err = io.WriteString(more, linesOf(1))
	require.NoError(t, err)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)

	c.JSON = true
	require.ErrorIs(t, c.emit(t.Context(), strings.NewReader(linesOf(1)), brokenPipe{}), io.ErrClosedPipe)
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
