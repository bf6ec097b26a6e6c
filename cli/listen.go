package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/google/uuid"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/internal/sleep"
	"github.com/mathub/webhooks/webhook"
)

const (
	// listenWait is how long one call waits for events.
	listenWait = "20s"

	// maxPause bounds the wait that the API asks for.
	maxPause = time.Minute

	// The wait before the API is asked again doubles with each failure in a row.
	leastBackoff = 500 * time.Millisecond
	mostBackoff  = 15 * time.Second
)

// Listen shows a bot's events as they come, and forwards them.
type Listen struct {
	BotFlags
	outputFlags
	Forward string   `help:"The URL that events are sent to, such as http://localhost:3000/hook. Any URL that this machine can reach."`
	Events  []string `help:"Event types, separated by commas. Default: all."`
	Filter  []string `sep:"none" placeholder:"FIELD=VALUE,…" help:"Only events whose data has one of these values in the field. May be repeated: all must match."`
	Secret  string   `env:"MATHUB_WEBHOOK_SECRET" help:"The secret that signs forwarded events. Default: a new one, which is printed."`
}

// forwarded says how a forwarding went.
type forwarded struct {
	Status     int    `json:"status,omitempty"`
	Error      string `json:"error,omitempty"`
	DurationMS int64  `json:"durationMs"`
}

// session is one run of Listen.
type session struct {
	*Listen
	id     uuid.UUID // takes the place of a webhook's
	client *http.Client
}

// Run listens until ctx ends, which is a success. Only a refusal of the API that waiting does not fix ends it before.
func (c *Listen) Run(ctx context.Context) error {
	s := &session{Listen: c, id: uuid.New(), client: &http.Client{
		Timeout:       webhook.AttemptTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if err := s.prepare(); err != nil {
		return usageError{err}
	}
	api, err := c.client()
	if err != nil {
		return err
	}
	cursor := "latest"
	backoff := leastBackoff
	for ctx.Err() == nil {
		params := mathub.PollEventsParams{After: cursor, Types: strings.Join(c.Events, ",")}
		if err := setFilter(&params, c.Filter); err != nil {
			return err
		}
		if cursor == "latest" {
			params.Limit = 1
		} else {
			params.Wait = listenWait
		}
		page, err := api.PollEvents(ctx, &params)
		if err != nil {
			wait, err := s.refused(ctx, err, backoff)
			if err != nil {
				return err
			}
			backoff = min(2*backoff, mostBackoff)
			sleep.For(ctx, wait)
			continue
		}
		if cursor == "latest" {
			s.say("Ready, waiting for events. Press Ctrl-C to stop.")
		} else if backoff > leastBackoff {
			s.say("The API answers again.")
		}
		cursor, backoff = page.Value.Cursor, leastBackoff
		for _, e := range page.Value.Events {
			if ctx.Err() != nil {
				break
			}
			s.handle(ctx, e)
		}
	}
	return nil
}

func (s *session) prepare() error {
	if s.Forward == "" {
		return nil
	}
	u, err := url.Parse(s.Forward)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("--forward must be an http or https URL")
	}
	if s.Secret == "" {
		s.Secret = webhook.NewSecret()
		s.say("Secret: " + s.Secret)
	} else if err := webhook.ValidateSecret(s.Secret); err != nil {
		return err
	}
	s.say("Forwarding to " + u.Redacted())
	return nil
}

// refused says how long to wait after a failure, or that waiting is in vain. That ctx has ended is no failure.
func (s *session) refused(ctx context.Context, err error, backoff time.Duration) (time.Duration, error) {
	if ctx.Err() != nil {
		return 0, nil //nolint:nilerr // Ctrl-C is how it ends
	}
	var no *mathub.Problem
	if errors.As(err, &no) {
		switch {
		case no.Status == http.StatusGone:
			return 0, fmt.Errorf("events were missed: %w", err)
		case !no.Temporary():
			return 0, err
		}
		backoff = max(backoff, min(no.RetryAfter, maxPause))
	}
	s.say(fmt.Sprintf("%s\nRetrying in %s.", err, backoff))
	return backoff, nil
}

// say tells a person something that is no event: on stderr, so that stdout has events only.
func (s *session) say(line string) { fmt.Fprintln(os.Stderr, line) }

func (s *session) handle(ctx context.Context, e mathub.PolledEvent) {
	if !s.JSON {
		fmt.Printf("%s  %-21s %s\n", time.Now().Format(time.TimeOnly), e.Type, e.ID)
	}
	var result *forwarded
	if s.Forward != "" {
		result = s.forward(ctx, e)
	}
	if s.JSON {
		s.line(e, result)
		return
	}
	switch {
	case result == nil:
		fmt.Printf("          %s\n", visible(e.Data))
	case result.Error != "":
		fmt.Printf("          failed: %s (%d ms)\n", result.Error, result.DurationMS)
	default:
		fmt.Printf("          %d %s (%d ms)\n", result.Status, http.StatusText(result.Status), result.DurationMS)
	}
}

// visible is JSON as a terminal can show it. What strangers wrote may hold characters that command a terminal (U+009B
// begins an escape sequence as ESC [ does) or turn the direction of the text: they are written as JSON's escapes.
func visible(data json.RawMessage) string {
	var b strings.Builder
	for _, r := range string(data) {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&b, `\u%04x`, unit)
		}
	}
	return b.String()
}

// line prints the event, its data to the digit, and what became of it.
func (s *session) line(e mathub.PolledEvent, result *forwarded) {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(struct { // what came as JSON goes as JSON
		ID        string          `json:"id"`
		Event     string          `json:"event"`
		Timestamp string          `json:"timestamp"`
		Data      json.RawMessage `json:"data"`
		Forwarded *forwarded      `json:"forwarded,omitempty"`
	}{e.ID, e.Type, webhook.FormatTime(e.Timestamp), e.Data, result})
	fmt.Print(visibleLines(line.String()))
}

// forward sends the event as a delivery is sent: the same bytes, the same headers.
func (s *session) forward(ctx context.Context, e mathub.PolledEvent) *forwarded {
	began := time.Now()
	eventType := webhook.EventType(e.Type)
	body := webhook.Event{ID: e.ID, Type: eventType, Timestamp: webhook.FormatTime(e.Timestamp), Data: e.Data}.Body()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.Forward, bytes.NewReader(body))
	if err != nil {
		return &forwarded{Error: cause(err).Error()}
	}
	request.Header = webhook.Headers(webhook.Delivery{
		ID: webhook.AttemptKey(e.ID, s.id, 1), EventID: e.ID, Type: eventType, At: began, Body: body, Secrets: []string{s.Secret}, Version: "listen",
	})
	response, err := s.client.Do(request)
	result := &forwarded{}
	if err == nil {
		_, err = io.CopyN(io.Discard, response.Body, webhook.MaxResponseBody)
		_ = response.Body.Close()
		result.Status = response.StatusCode
		if errors.Is(err, io.EOF) { // shorter, as most are
			err = nil
		}
	}
	result.DurationMS = time.Since(began).Milliseconds()
	switch {
	case err != nil && os.IsTimeout(err):
		result.Error = "timeout"
	case err != nil:
		result.Error = cause(err).Error()
	case result.Status < 200 || result.Status > 299:
		result.Error = fmt.Sprintf("HTTP %d", result.Status)
	}
	return result
}

// cause is an error of HTTP's client without the URL, which may hold a token.
func cause(err error) error {
	var around *url.Error
	if errors.As(err, &around) {
		return around.Err
	}
	return err
}
