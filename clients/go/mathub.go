// Package mathub receives, polls for and emits Mathub's events, with the standard library and one package of types.
//
// [Receiver] verifies what is sent to a webhook and serves it over net/http. [Client] has the calls of the bot API, and [Client.Poll];
// [Service] those of the service API, and [Service.Emit], which repeats a call until the event is accepted. The calls are generated from
// api/openapi.yaml, the types of events from the catalog. To emit through Temporal or an outbox, use package emit.
package mathub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	// defaultTimeout bounds a call. The API itself may wait 30 s for an event.
	defaultTimeout = 45 * time.Second

	// maxAnswer bounds an answer: a page of events may have a MiB and one event of 256 KiB, or 50 deliveries of such.
	maxAnswer = 32 << 20
)

// Client calls the bot API with a bot's key. It may be used by many goroutines.
type Client struct{ caller }

// Service calls the service API with the service token. It may be used by many goroutines.
type Service struct{ caller }

// Option changes how calls are made.
type Option func(*caller)

// WithHTTPClient has calls made by client, except that no redirect is followed. Without this option it is one with a timeout of 45 s.
func WithHTTPClient(client *http.Client) Option { return func(c *caller) { c.http = client } }

// WithOperator names who makes the calls of a Service: the audit log says so.
func WithOperator(name string) Option { return func(c *caller) { c.operator = name } }

// New is a client of the bot API at an http or https URL such as https://webhooks.example.org.
func New(baseURL, key string, options ...Option) (*Client, error) {
	c, err := newCaller(baseURL, key, options)
	if err != nil {
		return nil, err
	}
	return &Client{c}, nil
}

// NewService is a client of the service API at an http or https URL.
func NewService(baseURL, token string, options ...Option) (*Service, error) {
	c, err := newCaller(baseURL, token, options)
	if err != nil {
		return nil, err
	}
	return &Service{c}, nil
}

// Response is the answer to a call that succeeded.
type Response[T any] struct {
	Value T
	// Body is the JSON that Value was read from, as it came.
	Body   []byte
	Header http.Header
}

var nextLink = regexp.MustCompile(`<([^>]*)>\s*;\s*rel="next"`)

// Next is the cursor of a list's next page, which the Link header holds; empty: this page is the last. It is After or Before
// of the call's parameters.
func (r *Response[T]) Next() string {
	link := nextLink.FindStringSubmatch(strings.Join(r.Header.Values("Link"), ",")) // a proxy may add others
	if link == nil {
		return ""
	}
	next, err := url.Parse(link[1])
	if err != nil {
		return ""
	}
	query := next.Query()
	return query.Get("after") + query.Get("before") // one of them
}

// Webhooks are all webhooks of the bot and how they have been doing, oldest first, page by page. An error is the last that is yielded.
func (c *Client) Webhooks(ctx context.Context) iter.Seq2[WebhookDetail, error] {
	return pages("", func(cursor string) (*Response[[]WebhookDetail], error) {
		return c.ListWebhooks(ctx, &ListWebhooksParams{After: cursor})
	})
}

// Deliveries are all deliveries of a webhook that params ask for, newest first, page by page. An error is the last that is
// yielded.
func (c *Client) Deliveries(ctx context.Context, webhookID string, params ListDeliveriesParams) iter.Seq2[Delivery, error] {
	return pages(params.Before, func(cursor string) (*Response[[]Delivery], error) {
		params.Before = cursor
		return c.ListDeliveries(ctx, webhookID, &params)
	})
}

func pages[T any](cursor string, list func(cursor string) (*Response[[]T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for at, more := cursor, true; more; more = at != "" {
			page, err := list(at)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range page.Value {
				if !yield(item, nil) {
					return
				}
			}
			at = page.Next()
		}
	}
}

// FieldError says what is wrong with a field of a request.
type FieldError struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error says what is wrong, and each field at fault on a line of its own.
func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s: %s", p.Status, http.StatusText(p.Status), p.Detail)
	for _, f := range p.Errors {
		fmt.Fprintf(&b, "\n  %s %s", f.Field, f.Message)
	}
	return b.String()
}

// Temporary says whether the same call may succeed later: the status is 408, 429 or 5xx.
func (p *Problem) Temporary() bool {
	return p.Status == http.StatusRequestTimeout || p.Status == http.StatusTooManyRequests || p.Status >= http.StatusInternalServerError
}

// caller makes the calls. None of its errors holds the token.
type caller struct {
	base     *url.URL
	token    string
	http     *http.Client
	operator string
}

func newCaller(baseURL, token string, options []Option) (caller, error) {
	base, err := url.Parse(baseURL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return caller{}, errors.New("the API's URL must be an http or https URL")
	}
	token = strings.TrimSpace(token) // a file ends with a line break
	switch {
	case token == "":
		return caller{}, errors.New("the key or token is empty")
	case strings.ContainsFunc(token, unicode.IsControl): // else each call would go unanswered
		return caller{}, errors.New("the key or token has a line break or another control character in it")
	}
	c := caller{base: base, token: token, http: &http.Client{Timeout: defaultTimeout}}
	for _, option := range options {
		option(&c)
	}
	own := *c.http
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // a PATCH or DELETE would become a GET
	c.http = &own
	return c, nil
}

// noAnswerError says that it is not known whether a call was done.
type noAnswerError struct{ error }

// Unwrap is why no answer came.
func (e noAnswerError) Unwrap() error { return e.error }

// call sends body as JSON unless it is nil, and decodes the answer. The error is a *Problem where the API refused.
func call[T any](ctx context.Context, c caller, method, path string, query url.Values, body any) (*Response[T], error) {
	request, err := c.request(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, noAnswerError{fmt.Errorf("the API at %s does not answer: %w", c.base.Redacted(), withoutURL(err))}
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, noAnswerError{fmt.Errorf("the API's answer is incomplete: %w", withoutURL(err))}
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return nil, problemOf(response, raw)
	}
	answer := &Response[T]{Body: raw, Header: response.Header}
	if _, none := any(answer.Value).(struct{}); none && response.StatusCode == http.StatusNoContent {
		return answer, nil
	}
	if err := json.Unmarshal(raw, &answer.Value); err != nil {
		return nil, c.notTheAPI(err)
	}
	return answer, nil
}

// notTheAPI is for an answer of success that the API does not give: a proxy before it may give any.
func (c caller) notTheAPI(why error) error {
	return fmt.Errorf("the server at %s is not the API: %w", c.base.Redacted(), why)
}

func (c caller) request(ctx context.Context, method, path string, query url.Values, body any) (*http.Request, error) {
	target := strings.TrimSuffix(c.base.String(), "/") + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	var content bytes.Buffer
	if body != nil {
		encoder := json.NewEncoder(&content)
		encoder.SetEscapeHTML(false) // an event's data goes as it is
		if err := encoder.Encode(body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, target, &content)
	if err != nil {
		return nil, withoutURL(err)
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if c.operator != "" {
		request.Header.Set("X-Mathub-Operator", c.operator)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	return request, nil
}

func problemOf(response *http.Response, raw []byte) *Problem {
	p := &Problem{}
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")) // else it is no problem of the API's
	if mediaType != "application/problem+json" || json.Unmarshal(raw, p) != nil || p.Detail == "" {
		p.Detail = "the answer is not from the API."
		if to, err := response.Location(); err == nil {
			p.Detail = "the server redirects to " + to.Scheme + "://" + to.Host + ", which is not followed. Use the API's own URL."
		}
	}
	p.Status = response.StatusCode
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		p.RetryAfter = time.Duration(max(seconds, 0)) * time.Second
	}
	return p
}

// withoutURL is an error of HTTP's client without the URL, which may hold a password.
func withoutURL(err error) error {
	var around *url.Error
	if errors.As(err, &around) {
		return around.Err
	}
	return err
}

// setUnlessZero sets a parameter that is given: the zero value is one that is left out.
func setUnlessZero(query url.Values, name string, value any) {
	if list, repeated := value.([]string); repeated {
		for _, item := range list {
			query.Add(name, item)
		}
	} else if !reflect.ValueOf(value).IsZero() {
		query.Set(name, fmt.Sprint(value))
	}
}

// unlessNil is nil where there is no body.
func unlessNil[T any](body *T) any {
	if body == nil {
		return nil
	}
	return body
}
