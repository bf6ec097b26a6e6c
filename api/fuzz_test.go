package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/testutil/fuzzing"
	"github.com/mathub/webhooks/internal/testutil/fuzzworld"
)

// fuzzWorld is a system whose rows the document's examples are about. Each input meets the same rows.
type fuzzWorld struct {
	*system
	*fuzzworld.World
	calls  fuzzCalls
	corpus *fuzzing.Corpus // nil: none is kept
}

func newFuzzWorld(t testing.TB, prefixes ...string) *fuzzWorld {
	t.Helper()
	all, err := allCalls()
	require.NoError(t, err)
	s := newSystem(t)
	w := &fuzzWorld{s, fuzzworld.NewWorld(t, s.pool, s.keyset, s.receiver), all.below(prefixes...), nil}
	require.NotEmpty(t, w.calls.calls)
	w.Secrets = append(w.Secrets, serviceToken)
	return w
}

// run sends an input's request and holds the answer to the document: its status is one of the operation's, its header and
// body are as the schema says, it is no fault of ours and has no secret. What the document refuses is refused, and a call that is
// refused has changed nothing.
func (w *fuzzWorld) run(t testing.TB, in fuzzInput) (status int) {
	t.Helper()
	in = w.calls.changed(in)
	defer func() {
		if t.Failed() {
			t.Logf("the input: %#v", in)
		}
		w.corpus.Offer(t, in.call, uint64(0), in.path, in.query, in.headers, in.body)
	}()
	w.clock.Advance(time.Minute) // so that no limit of calls is reached
	for try := 0; ; try++ {
		c, req, err := w.calls.request(w.url, in)
		if err != nil {
			return 0 // no client can send it
		}
		w.Restore(t, strings.HasSuffix(c.path, "/recover") && c.method != http.MethodPost)
		token := serviceToken
		if strings.HasPrefix(c.path, "/api/bot/") {
			token = w.Key
		}
		req.Header.Set("Authorization", "Bearer "+token)
		got, waits := w.answerOf(t, req)
		if waits {
			return 0
		}
		w.Changed = c.method != http.MethodGet && (got.status < 400 || got.status >= 500)
		if got.status == http.StatusServiceUnavailable && got.header.Get("Retry-After") != "" && try < 20 {
			time.Sleep(200 * time.Millisecond) // the machine is busy
			continue
		}
		at := &testAPI{t: t}
		at.holdAgainstContract(req, got)
		w.judge(t, c, req, in, got)
		return got.status
	}
}

// answerOf sends a request. A poll that waits, for an event that nobody emits, is given up.
func (w *fuzzWorld) answerOf(t testing.TB, req *http.Request) (got answer, waits bool) {
	t.Helper()
	within := time.Minute
	if isPoll := req.URL.Path == pollPath; isPoll && strings.Contains(req.URL.RawQuery, "wait") {
		within = 50 * time.Millisecond
		waits = true
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	resp, err := http.DefaultClient.Do(req.WithContext(ctx))
	if waits && errors.Is(err, context.DeadlineExceeded) {
		return answer{}, true
	}
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return answer{resp.StatusCode, resp.Header, body}, false
}

// general are the statuses that any operation may answer with, which the document calls another error.
var general = []int{
	http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusRequestEntityTooLarge,
	http.StatusUnsupportedMediaType, http.StatusTooManyRequests,
}

func (w *fuzzWorld) judge(t testing.TB, c *fuzzCall, req *http.Request, in fuzzInput, got answer) {
	t.Helper()
	said := fmt.Sprintf("%s %s, of %#v: %d %.2000s", req.Method, req.URL, in, got.status, got.body)
	documented := c.operation.Responses.Value(strconv.Itoa(got.status)) != nil
	require.True(t, documented || slices.Contains(general, got.status), "not a status of the operation: %s", said)
	require.Less(t, got.status, 500, "%s", said)
	if got.status >= 400 && c.method != http.MethodGet {
		w.RequireUnchanged(t, said)
	}
	if got.status < 400 && !strings.Contains(in.body, "null") { // null is as if left out, which the document says in words
		requireValid(t, req, in, said)
	}
	for _, secret := range w.Secrets {
		require.NotContains(t, string(got.body), secret, "%s", said)
		require.NotContains(t, fmt.Sprint(got.header), secret, "%s", said)
	}
	if got.status < 300 && len(got.body) > 0 && strings.HasSuffix(got.header.Get("Content-Type"), "json") {
		require.True(t, json.Valid(bytes.TrimSpace(got.body)), "%s", said)
	}
}

// requireValid holds a request that was taken to the document: what that refuses must be refused.
func requireValid(t testing.TB, req *http.Request, in fuzzInput, said string) {
	t.Helper()
	router, err := contract()
	require.NoError(t, err)
	plain := req.Clone(context.Background())
	plain.URL.Scheme, plain.URL.Host, plain.Host = "", "", ""
	plain.Body = io.NopCloser(strings.NewReader(in.body))
	plain.ContentLength = int64(len(in.body))
	route, params, err := router.FindRoute(plain)
	require.NoError(t, err, "%s", said)
	err = openapi3filter.ValidateRequest(context.Background(), &openapi3filter.RequestValidationInput{
		Request: plain, PathParams: params, Route: route, Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	})
	require.NoError(t, err, "taken, though the document refuses it: %s", said)
}

// fuzzAll fuzzes the operations below the prefixes, from the document's examples.
func fuzzAll(f *testing.F, prefixes ...string) {
	w := newFuzzWorld(f, prefixes...)
	for _, c := range w.calls.calls {
		for i, in := range c.seeds() {
			f.Add(in.call, in.seed, in.path, in.query, in.headers, in.body)
			f.Add(in.call, uint64(1+i), in.path, in.query, in.headers, in.body)
		}
	}
	f.Fuzz(func(t *testing.T, call string, seed uint64, path, query, headers, body string) {
		w.run(t, fuzzInput{call: call, seed: seed, path: path, query: query, headers: headers, body: body})
	})
}

func FuzzBotAPI(f *testing.F) { fuzzAll(f, "/api/bot/") }
func FuzzServiceAPI(f *testing.F) {
	fuzzAll(f, "/api/internal/", "/healthz", "/readyz", "/schemas", "/openapi.json", "/docs")
}

// TestNumberedInputs is the long form of the two: see fuzzing.Numbered. The first inputs are the document's examples, of which each
// call takes some.
func TestNumberedInputs(t *testing.T) {
	t.Parallel()
	for name, prefixes := range map[string][]string{"FuzzBotAPI": {"/api/bot/"}, "FuzzServiceAPI": {"/api/internal/", "/healthz", "/readyz", "/schemas"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			taken, corpus := map[string]bool{}, fuzzing.KeepCorpus(name)
			fuzzing.Numbered(t, 600, func(t *testing.T) func(n uint64) int {
				w := newFuzzWorld(t, prefixes...)
				w.corpus = corpus
				return func(n uint64) int {
					in := w.calls.numbered(n)
					status := w.run(t, in)
					mu.Lock()
					defer mu.Unlock()
					taken[in.call] = taken[in.call] || status > 0 && status < 400
					return status
				}
			})
			if os.Getenv("MATHUB_FUZZ_FROM") != "" {
				return
			}
			for call, was := range taken {
				require.True(t, was, "%s never took anything: its inputs reach nothing", call)
			}
		})
	}
}
