package mathub_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

// turns is an API that gives its answers in turn, the last again and again. A status of 0 breaks the connection. ID, in an answer, is
// each id that was sent, in turn.
func turns(t *testing.T, answers ...exchangeAnswer) (url string, asked func() []exchange) {
	t.Helper()
	requests := make(chan exchange, 1000)
	var seen []exchange
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body) // what is missing fails the test
		answer := answers[min(len(requests), len(answers)-1)]
		requests <- exchange{method: r.Method, target: r.RequestURI, body: string(raw)}
		if answer.status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(answer.status)
		for _, id := range sentID.FindAllSubmatch(raw, -1) {
			answer.body = strings.Replace(answer.body, "ID", string(id[1]), 1)
		}
		_, _ = io.WriteString(w, answer.body)
	}))
	t.Cleanup(server.Close)
	return server.URL, func() []exchange {
		for len(requests) > 0 {
			seen = append(seen, <-requests)
		}
		return seen
	}
}

var sentID = regexp.MustCompile(`"id":"([^"]*)"`)

type exchangeAnswer struct {
	status int
	body   string
}

func newService(t *testing.T, url string) *mathub.Service {
	t.Helper()
	service, err := mathub.NewService(url, "token")
	require.NoError(t, err)
	return service
}

// TestEmit_GoesOnThroughTrouble: with the same bytes, so that the event is accepted once.
func TestEmit_GoesOnThroughTrouble(t *testing.T) {
	t.Parallel()
	url, asked := turns(t, exchangeAnswer{0, ""}, exchangeAnswer{503, `{"detail":"Busy."}`}, exchangeAnswer{408, ""}, exchangeAnswer{429, ""}, exchangeAnswer{202, `{"id":"ID","workflowId":"w","duplicate":true}`})
	receipt, err := newService(t, url).Emit(t.Context(), mathub.NewEvent("", mathub.MentionData{Body: "<x>"}, "bot-lemma"))
	require.NoError(t, err)
	tries := asked()
	require.Len(t, tries, 5)
	for _, try := range tries {
		require.Equal(t, tries[0], try)
	}
	event, err := webhook.ParseEvent([]byte(tries[0].body))
	require.NoError(t, err, "the product takes it")
	require.Equal(t, uuid.Version(7), uuid.MustParse(event.ID).Version())
	require.Equal(t, mathub.Receipt{ID: event.ID, WorkflowID: "w", Duplicate: true}, receipt)
	require.Equal(t, []string{"bot-lemma"}, event.BotIDs)
	require.JSONEq(t, `{"postId":"","threadId":"","body":"<x>","authorId":""}`, string(event.Data))
	require.Contains(t, tries[0].body, "<x>", "as it is")
}

// TestEmit_AnEmptyAudienceIsNotEveryBot: it is sent as it is, and the service refuses it. So are the bots of an incident.
func TestEmit_AnEmptyAudienceIsNotEveryBot(t *testing.T) {
	t.Parallel()
	event := mathub.NewEvent("e", mathub.ThreadCreatedData{}, []string{}...)
	for name, encoded := range map[string]any{"the client's": event, "the product's": webhook.Event{Type: webhook.ThreadCreated, Data: []byte("{}"), BotIDs: []string{}}} {
		raw, err := json.Marshal(encoded)
		require.NoError(t, err)
		_, err = webhook.ParseEvent(raw)
		require.ErrorContains(t, err, "botIds", name)
	}
	incident, err := json.Marshal(mathub.NewIncident{BotIDs: []string{}})
	require.NoError(t, err)
	require.Contains(t, string(incident), `"botIds":[]`)
	require.NotContains(t, string(incident), "errors", "nil is left out, which is for all")
	change, err := json.Marshal(mathub.WebhookChange{Events: mathub.EventTypes{}})
	require.NoError(t, err)
	require.JSONEq(t, `{"events":[]}`, string(change))
}

func TestEmitBatch_GoesOnThroughTrouble(t *testing.T) {
	t.Parallel()
	url, asked := turns(t, exchangeAnswer{500, ""}, exchangeAnswer{202, `[{"id":"ID","workflowId":"w"},{"id":"ID","workflowId":"w"}]`})
	receipts, err := newService(t, url).EmitBatch(t.Context(), []mathub.Event{mathub.NewEvent("a", mathub.PostCreatedData{}), mathub.NewEvent("", mathub.PostCreatedData{})})
	require.NoError(t, err)
	require.Len(t, receipts, 2)
	tries := asked()
	require.Len(t, tries, 2)
	require.Equal(t, tries[0], tries[1], "a missing id is chosen once")
	require.Equal(t, "/api/internal/v1/events/batch", tries[0].target)
}

func TestEmit_EndsWhereTryingIsInVain(t *testing.T) {
	t.Parallel()
	url, asked := turns(t, exchangeAnswer{422, `{"detail":"No.","errors":[{"field":"data","message":"is missing"}]}`})
	_, err := newService(t, url).Emit(t.Context(), mathub.Event{ID: "e", Type: mathub.PostCreated, Data: json.RawMessage(`{}`)})
	var refused *mathub.Problem
	require.ErrorAs(t, err, &refused)
	require.Equal(t, []mathub.FieldError{{Field: "data", Message: "is missing"}}, refused.Errors)
	require.Len(t, asked(), 1)
	_, err = newService(t, url).Emit(t.Context(), mathub.Event{ID: "e", Type: mathub.PostCreated, Data: json.RawMessage(`{`)})
	require.ErrorContains(t, err, "emit e")
	require.Len(t, asked(), 1, "what cannot be encoded is not sent")
}

// TestEmit_OnlyAReceiptIsSuccess: a proxy before the service, or what is in its place, may answer anything.
func TestEmit_OnlyAReceiptIsSuccess(t *testing.T) {
	t.Parallel()
	event := mathub.NewEvent("a", mathub.PostCreatedData{})
	for _, answer := range []exchangeAnswer{{204, ""}, {200, ""}, {200, "<html>"}, {200, "null"}, {200, "{}"}, {202, `{"id":"b"}`}, {202, "[]"}, {202, `[{"id":"b"}]`}, {202, `[{"id":"a"},{"id":"a"}]`}} {
		url, asked := turns(t, answer)
		_, err := newService(t, url).Emit(t.Context(), event)
		require.ErrorContains(t, err, "is not the API", answer)
		_, err = newService(t, url).EmitBatch(t.Context(), []mathub.Event{event})
		require.ErrorContains(t, err, "is not the API", answer)
		require.Len(t, asked(), 2)
	}
	url, _ := turns(t, exchangeAnswer{202, `{"id":"0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71"}`})
	event.ID = "0195B2F0-5A3E-7C1D-8F00-3B6D2A9C4E71"
	_, err := newService(t, url).Emit(t.Context(), event)
	require.NoError(t, err, "a UUID is the same in either case")
}

func TestEmit_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	url, asked := turns(t, exchangeAnswer{503, `{"detail":"Busy."}`})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := newService(t, url).Emit(ctx, mathub.NewEvent("e", mathub.PostCreatedData{}))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "Busy.")
	require.Greater(t, len(asked()), 1)
}

func TestBatches(t *testing.T) {
	t.Parallel()
	sizes := func(events ...mathub.Event) (sizes []int) {
		for batch := range mathub.Batches(slices.Values(events)) {
			sizes = append(sizes, len(batch))
			raw, err := json.Marshal(mathub.EventBatch{Events: batch})
			require.NoError(t, err)
			if len(batch) > 1 {
				require.LessOrEqual(t, len(raw), webhook.MaxBatchBytes)
			}
			for _, event := range batch {
				require.NotEmpty(t, event.ID)
			}
		}
		return sizes
	}
	many := func(n, bytes int) (events []mathub.Event) {
		for i := range n {
			events = append(events, mathub.NewEvent(fmt.Sprintf("e%d", i), mathub.PostCreatedData{Body: strings.Repeat("x", bytes)}))
		}
		return events
	}
	require.Empty(t, sizes())
	require.Equal(t, []int{100, 100, 50}, sizes(many(250, 1)...))
	require.Equal(t, []int{4, 4, 2}, sizes(many(10, 250_000)...))
	require.Equal(t, []int{1, 2}, sizes(append(many(1, 1), many(2, 1)...)...), "an id may stand once")
	for range mathub.Batches(slices.Values(many(250, 1))) {
		break
	}
}

// TestPoll_GoesOnThroughTrouble: as the TypeScript and Python packages do.
func TestPoll_GoesOnThroughTrouble(t *testing.T) {
	t.Parallel()
	url, asked := turns(t,
		exchangeAnswer{200, `{"events":[],"cursor":"10"}`}, exchangeAnswer{0, ""}, exchangeAnswer{503, `{}`}, exchangeAnswer{200, `{"events":[],"cursor":"10"}`},
		exchangeAnswer{200, `{"events":[{"id":"e1","event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"body":"QED"}}],"cursor":"11"}`},
		exchangeAnswer{410, `{"detail":"Gone."}`},
	)
	bot, err := mathub.New(url+"/", "bot_k")
	require.NoError(t, err)
	var pages []mathub.Page
	var last error
	for page, err := range bot.Poll(t.Context(), mathub.PollOptions{After: "latest", Types: []mathub.EventType{mathub.Mention, mathub.PostCreated}, Filter: map[string][]string{"threadId": {"t 1", "t2"}}, Wait: 7 * time.Second}) {
		if last = err; err == nil {
			pages = append(pages, page)
		}
	}
	var gone *mathub.Problem
	require.ErrorAs(t, last, &gone)
	require.Equal(t, http.StatusGone, gone.Status)
	require.Len(t, pages, 2)
	require.Equal(t, mathub.PostCreatedData{Body: "QED"}, pages[1].Events[0].Data)
	require.Equal(t, "11", pages[1].Cursor)
	require.Len(t, asked(), 6)
	require.Equal(t, "/api/bot/v1/events?after=latest&threadId=t+1&threadId=t2&types=mention%2Cpost.created", asked()[0].target, "where it begins is known before it waits")
	require.Equal(t, "/api/bot/v1/events?after=11&threadId=t+1&threadId=t2&types=mention%2Cpost.created&wait=7s", asked()[5].target)
}

func TestPoll_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	url, _ := turns(t, exchangeAnswer{503, ""})
	bot, err := mathub.New(url, "bot_k")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for page, err := range bot.Poll(ctx, mathub.PollOptions{}) {
		t.Fatal("it yields nothing", page, err)
	}
	for _, answer := range []exchangeAnswer{{204, ""}, {200, "{}"}} {
		url, asked := turns(t, answer)
		bot, err := mathub.New(url, "bot_k")
		require.NoError(t, err)
		for _, err := range bot.Poll(t.Context(), mathub.PollOptions{After: "10"}) {
			require.ErrorContains(t, err, "is not the API")
		}
		require.Len(t, asked(), 1)
	}
	for _, err := range bot.Poll(t.Context(), mathub.PollOptions{Wait: 31 * time.Second}) {
		require.ErrorContains(t, err, "Wait must be 1 to 30 whole seconds")
	}
	for _, err := range bot.Poll(t.Context(), mathub.PollOptions{Filter: map[string][]string{"limit": {"1"}}}) {
		require.ErrorContains(t, err, "limit is not a field of any event type")
	}
	for _, err := range bot.Poll(t.Context(), mathub.PollOptions{Filter: map[string][]string{"threadId": {}}}) {
		require.ErrorContains(t, err, "threadId needs a value")
	}
}
