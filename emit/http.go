package emit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/webhook"
)

const (
	// tryTimeout bounds one request. The service answers within 15 s, be it 503.
	tryTimeout = 20 * time.Second
	// firstPause and longestPause bound the pauses between requests where the service names none.
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
	// longestAsked bounds the pauses that it names, or a proxy before it: both may answer again at once.
	longestAsked = time.Minute
	// maxAnswer bounds what is read of an answer: 100 receipts of 20 unknown bots each, or a problem of at most 20 fields and
	// 100 ids.
	maxAnswer = 512 << 10
)

// HTTP emits events over the service API. Its methods may be called by many goroutines.
type HTTP struct {
	// URL is where the API is, such as http://127.0.0.1:8080.
	URL string
	// Token is the service token.
	Token string
	// Client makes the requests, and follows no redirect; http.DefaultClient when nil.
	Client *http.Client
}

// RefusedError is an answer other than 202.
type RefusedError struct {
	// Status is the HTTP status.
	Status int
	// Detail says why, in the service's words; empty where the answer is another's, such as a proxy's.
	Detail string
	// Fields are what the service found wrong with the events.
	Fields []webhook.FieldError
	// RetryAfter is how long the service asks to wait before the next request; 0 when it does not say.
	RetryAfter time.Duration
}

// Error says what the service answered.
func (e *RefusedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP %d", e.Status)
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	for _, f := range e.Fields {
		fmt.Fprintf(&b, " %s: %s.", f.Field, f.Message)
	}
	return b.String()
}

// IsInvalid says whether err, of [Event] or of HTTP, means that the event is invalid and must not be emitted again: a
// *webhook.InvalidError, an answer of the service of 400, 415 or 422, or anyone's of 413. Any other error, such as a wrong token or a
// proxy's 400, may pass.
func IsInvalid(err error) bool {
	var invalid *webhook.InvalidError
	var refused *RefusedError
	switch {
	case errors.As(err, &invalid):
		return true
	case errors.As(err, &refused):
		switch refused.Status {
		case http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
			return refused.Detail != ""
		case http.StatusRequestEntityTooLarge: // a proxy before the service may take less than the service
			return true
		}
	}
	return false
}

// Faults are the invalid fields that err, of [Event], [Events] or of HTTP, names, if any. Of several events, they are named
// by position: see webhook.BatchPlace.
func Faults(err error) []webhook.FieldError {
	var invalid *webhook.InvalidError
	var refused *RefusedError
	switch {
	case errors.As(err, &invalid):
		return invalid.Fields
	case errors.As(err, &refused):
		return refused.Fields
	}
	return nil
}

// Event accepts e for delivery, as the package's Event does. It retries temporary failures (no answer, a 408, 429 or 5xx) with
// the same id after 0.1 s, 0.2 s and so on up to 10 s, or as Retry-After says, up to a minute, until ctx ends: give ctx a
// deadline. The error is the last one, a *webhook.InvalidError or a *RefusedError.
func (h *HTTP) Event(ctx context.Context, e webhook.Event) (Receipt, error) {
	if err := e.Validate(); err != nil {
		return Receipt{}, err
	}
	return first(h.patiently(ctx, single(e)))
}

// Try is Event with one request, of at most 20 s. An event without an id gets one, which nobody learns if no answer
// comes: give it an id to be able to emit it again.
func (h *HTTP) Try(ctx context.Context, e webhook.Event) (Receipt, error) {
	if err := e.Validate(); err != nil {
		return Receipt{}, err
	}
	return first(h.request(ctx, single(e)))
}

// Events is Event for 1 to webhook.MaxBatchEvents events of webhook.MaxBatchBytes in all: all are accepted, or none is.
// Receipts are in their order, and an error names an event at fault by its place, "events[3].data". Ids that are
// missing count towards the size as well: events that fill a batch to the brim need their own.
func (h *HTTP) Events(ctx context.Context, events []webhook.Event) ([]Receipt, error) {
	if err := webhook.ValidateBatch(events); err != nil {
		return nil, err
	}
	return h.patiently(ctx, several(events))
}

// TryEvents is Events with one request, as Try is Event with one.
func (h *HTTP) TryEvents(ctx context.Context, events []webhook.Event) ([]Receipt, error) {
	if err := webhook.ValidateBatch(events); err != nil {
		return nil, err
	}
	return h.request(ctx, several(events))
}

// emission is what one call emits: its events have ids, so that each request has the same.
type emission struct {
	path string
	body []byte
	name string // for errors
	// receipts reads the service's answer.
	receipts func(answer []byte) ([]Receipt, error)
}

func single(e webhook.Event) emission {
	e = e.Identify()
	return emission{path: "/api/internal/v1/events", body: e.JSON(), name: e.ID, receipts: func(answer []byte) ([]Receipt, error) {
		receipts := make([]Receipt, 1)
		err := json.Unmarshal(answer, &receipts[0])
		return receipts, cmp.Or(err, checkReceipts([]webhook.Event{e}, receipts))
	}}
}

func several(events []webhook.Event) emission {
	events = identified(events)
	body := slices.Concat([]byte(`{"events":`), webhook.BatchJSON(events), []byte("}"))
	name := fmt.Sprintf("%d events from %s on", len(events), events[0].ID)
	return emission{path: "/api/internal/v1/events/batch", body: body, name: name, receipts: func(answer []byte) ([]Receipt, error) {
		var receipts []Receipt
		err := json.Unmarshal(answer, &receipts)
		return receipts, cmp.Or(err, checkReceipts(events, receipts))
	}}
}

// checkReceipts holds receipts against their events: a proxy may answer anything.
func checkReceipts(events []webhook.Event, receipts []Receipt) error {
	if len(receipts) != len(events) {
		return fmt.Errorf("got %d receipts", len(receipts))
	}
	for i, r := range receipts {
		if r.ID != events[i].ID {
			return fmt.Errorf("got a receipt of %q instead of %q", webhook.Shorten(r.ID), events[i].ID)
		}
	}
	return nil
}

func first(receipts []Receipt, err error) (Receipt, error) {
	if err != nil {
		return Receipt{}, err
	}
	return receipts[0], nil
}

// patiently makes requests until one is answered for good or ctx ends.
func (h *HTTP) patiently(ctx context.Context, em emission) ([]Receipt, error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		receipts, err := h.request(ctx, em)
		if err == nil || !mayPass(err) {
			return receipts, err
		}
		if !sleep.For(ctx, waitAfter(err, pause)) {
			return nil, fmt.Errorf("emit %s: %w; the last answer: %w", em.name, context.Cause(ctx), err)
		}
	}
}

// waitAfter is a pause with jitter, or a longer one that the service asks for.
func waitAfter(err error, pause time.Duration) time.Duration {
	wait := pause/2 + rand.N(pause/2)
	var refused *RefusedError
	if errors.As(err, &refused) {
		wait = max(wait, min(refused.RetryAfter, longestAsked))
	}
	return wait
}

func mayPass(err error) bool {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Status == http.StatusRequestTimeout || refused.Status == http.StatusTooManyRequests || refused.Status >= http.StatusInternalServerError
	}
	return !errors.Is(err, errURL) && !errors.Is(err, errToken)
}

var (
	errURL   = errors.New("the service's URL must be an http or https URL, such as https://webhooks.internal:8080")
	errToken = errors.New("the service token has a line break or another control character in it")
)

// endpoint is where events are posted to.
func (h *HTTP) endpoint(path string) (string, error) {
	at, err := url.Parse(h.URL)
	if err != nil || (at.Scheme != "http" && at.Scheme != "https") || at.Host == "" {
		return "", errURL
	}
	return at.JoinPath(path).String(), nil
}

// request makes one request, of at most tryTimeout.
func (h *HTTP) request(ctx context.Context, em emission) ([]Receipt, error) {
	endpoint, err := h.endpoint(em.path)
	if err != nil {
		return nil, err
	}
	token := strings.TrimSpace(h.Token) // a file ends with a line break
	if strings.ContainsFunc(token, unicode.IsControl) {
		return nil, errToken // else each request would go unanswered
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(em.body))
	if err != nil {
		return nil, fmt.Errorf("emit %s: %w", em.name, err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+token)
	client := *cmp.Or(h.Client, http.DefaultClient)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the POST would become a GET
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("emit %s: %w", em.name, err)
	}
	defer response.Body.Close() //nolint:errcheck // what is needed has been read
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("emit %s: %w", em.name, err)
	}
	if response.StatusCode != http.StatusAccepted {
		if to, err := response.Location(); err == nil {
			return nil, fmt.Errorf("emit %s: %w: the URL redirects to %s://%s, which is not followed", em.name, refusal(response, answer), to.Scheme, to.Host)
		}
		return nil, fmt.Errorf("emit %s: %w", em.name, refusal(response, answer))
	}
	receipts, err := em.receipts(answer)
	if err != nil {
		return nil, fmt.Errorf("emit %s: the answer is not from the service: %w", em.name, err)
	}
	return receipts, nil
}

func refusal(response *http.Response, answer []byte) *RefusedError {
	var problem struct {
		Detail string               `json:"detail"`
		Errors []webhook.FieldError `json:"errors"`
	}
	// What a proxy answers tells no more than its status.
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind == "application/problem+json" {
		_ = json.Unmarshal(answer, &problem)
	}
	return &RefusedError{
		Status: response.StatusCode, Detail: problem.Detail, Fields: problem.Errors,
		RetryAfter: webhook.ParseRetryAfter(response.Header.Get("Retry-After"), time.Now()),
	}
}
