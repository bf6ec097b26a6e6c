package emit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mathub/webhooks/webhook"
)

const (
	// tryTimeout bounds one request. The service answers within 15 s, be it 503.
	tryTimeout = 20 * time.Second
	// firstPause and longestPause bound the pauses between requests where the service names none.
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
	// maxAnswer bounds what is read of an answer: a receipt or a problem of at most 20 fields.
	maxAnswer = 64 << 10
)

// HTTP emits events over the service API. Its methods may be called by many goroutines.
type HTTP struct {
	// URL is where the API is, such as http://127.0.0.1:8080.
	URL string
	// Token is the service token.
	Token string
	// Client makes the requests; http.DefaultClient when nil.
	Client *http.Client
}

// RefusedError is an answer other than 202.
type RefusedError struct {
	// Status is the HTTP status.
	Status int
	// Detail says why, in the service's words.
	Detail string
	// Fields are what the service found wrong with the event.
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

// IsInvalid says whether err, of [Event] or of HTTP, means that the event itself is at fault, so that emitting it again
// would be in vain: a *webhook.InvalidError, or an answer of 400, 413, 415 or 422. Any other error, a wrong token among
// them, may pass.
func IsInvalid(err error) bool {
	var invalid *webhook.InvalidError
	var refused *RefusedError
	switch {
	case errors.As(err, &invalid):
		return true
	case errors.As(err, &refused):
		switch refused.Status {
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
			return true
		}
	}
	return false
}

// Event accepts e for delivery, as the package's Event does. What may pass (no answer, a 429, a 5xx) is tried again with
// the same id, after 0.1 s, 0.2 s and so on up to 10 s, or when Retry-After says, until ctx ends: give it a deadline. The
// error is then the last one that was met, or a *webhook.InvalidError, or a *RefusedError.
func (h *HTTP) Event(ctx context.Context, e webhook.Event) (Receipt, error) {
	if err := e.Validate(); err != nil {
		return Receipt{}, err
	}
	e = e.Complete(time.Now()) // once: each request has the same id
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		receipt, err := h.Try(ctx, e)
		if err == nil || !mayPass(err) {
			return receipt, err
		}
		wait := pause/2 + rand.N(pause/2)
		var refused *RefusedError
		if errors.As(err, &refused) {
			wait = max(wait, refused.RetryAfter)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return Receipt{}, fmt.Errorf("emit %s: %w; the last answer: %w", e.ID, context.Cause(ctx), err)
		}
	}
}

func mayPass(err error) bool {
	var refused *RefusedError
	if errors.As(err, &refused) {
		return refused.Status == http.StatusTooManyRequests || refused.Status >= http.StatusInternalServerError
	}
	var invalid *webhook.InvalidError
	return !errors.As(err, &invalid) && !errors.Is(err, errURL)
}

var errURL = errors.New("the service's URL must be such as https://webhooks.internal:8080")

// endpoint is where events are posted to.
func (h *HTTP) endpoint() (string, error) {
	at, err := url.Parse(h.URL)
	if err != nil || (at.Scheme != "http" && at.Scheme != "https") || at.Host == "" {
		return "", errURL
	}
	return at.JoinPath("/api/internal/v1/events").String(), nil
}

// Try is Event with one request, of at most 20 s. An event without an id gets one, which nobody learns if no answer
// comes: give it an id to be able to emit it again.
func (h *HTTP) Try(ctx context.Context, e webhook.Event) (Receipt, error) {
	if err := e.Validate(); err != nil {
		return Receipt{}, err
	}
	e = e.Complete(time.Now())
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	endpoint, err := h.endpoint()
	if err != nil {
		return Receipt{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(e.JSON()))
	if err != nil {
		return Receipt{}, fmt.Errorf("emit %s: %w", e.ID, err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+h.Token)
	client := h.Client
	if client == nil {
		client = http.DefaultClient
	}
	response, err := client.Do(request)
	if err != nil {
		return Receipt{}, fmt.Errorf("emit %s: %w", e.ID, err)
	}
	defer response.Body.Close() //nolint:errcheck // what is needed has been read
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return Receipt{}, fmt.Errorf("emit %s: %w", e.ID, err)
	}
	if response.StatusCode != http.StatusAccepted {
		return Receipt{}, fmt.Errorf("emit %s: %w", e.ID, refusal(response, answer))
	}
	var receipt Receipt
	if err := json.Unmarshal(answer, &receipt); err != nil {
		return Receipt{}, fmt.Errorf("emit %s: the answer is not the service's: %w", e.ID, err)
	}
	return receipt, nil
}

func refusal(response *http.Response, answer []byte) *RefusedError {
	var problem struct {
		Detail string               `json:"detail"`
		Errors []webhook.FieldError `json:"errors"`
	}
	_ = json.Unmarshal(answer, &problem) // a proxy's page tells no more than its status
	return &RefusedError{
		Status: response.StatusCode, Detail: problem.Detail, Fields: problem.Errors,
		RetryAfter: webhook.ParseRetryAfter(response.Header.Get("Retry-After"), time.Now()),
	}
}
