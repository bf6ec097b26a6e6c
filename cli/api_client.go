package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	// answerTimeout bounds a call beyond what the API itself may wait.
	answerTimeout = 45 * time.Second

	// maxAnswer bounds an answer: a page of events may have a MiB and one event of 256 KiB, or 50 deliveries of such.
	maxAnswer = 32 << 20

	botAPI     = "/api/bot/v1/"
	serviceAPI = "/api/internal/v1/"
)

// APIFlags say where the API is.
type APIFlags struct {
	API *url.URL `name:"api" env:"MATHUB_API" default:"http://127.0.0.1:8080" help:"The API's URL."`
}

// Validate refuses what no API can be at.
func (f APIFlags) Validate() error {
	if f.API == nil || f.API.Scheme != "http" && f.API.Scheme != "https" || f.API.Host == "" {
		return errors.New("--api (MATHUB_API) must be an http or https URL")
	}
	return nil
}

// BotFlags say where the API is and hold a bot's key.
type BotFlags struct {
	APIFlags
	Key string `env:"MATHUB_BOT_KEY" required:"" help:"A key of the bot. Prefer the environment: other users of the machine can see the command line."`
}

// Validate refuses an empty key, which an environment may hold.
func (f BotFlags) Validate() error {
	if f.Key == "" {
		return errors.New("--key (MATHUB_BOT_KEY) is empty")
	}
	return f.APIFlags.Validate()
}

func (f BotFlags) client() *apiClient { return &apiClient{base: f.API, token: f.Key} }

// apiClient calls the API. None of its errors holds the token.
type apiClient struct {
	base  *url.URL
	token string
}

// problem is how the API says no.
type problem struct {
	status     int
	retryAfter time.Duration
	Detail     string `json:"detail"`
	Errors     []struct {
		Field   string `json:"field"`
		Message string `json:"message"`
	} `json:"errors"`
}

// Error is what a person needs: what is wrong, and each field at fault on a line of its own.
func (p *problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s: %s", p.status, http.StatusText(p.status), p.Detail)
	for _, f := range p.Errors {
		fmt.Fprintf(&b, "\n  %s %s", f.Field, f.Message)
	}
	return b.String()
}

// exactJSON is a body that is sent as it is: json.Marshal would escape some of it.
type exactJSON []byte

// call sends body as JSON unless it is nil, and decodes the answer into answer unless that is nil. The error is a
// *problem where the API said no.
func (c *apiClient) call(ctx context.Context, method, path string, body, answer any) error {
	_, err := c.exchange(ctx, method, path, body, answer)
	return err
}

// exchange is call for who needs the answer's header as well.
func (c *apiClient) exchange(ctx context.Context, method, path string, body, answer any) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var content io.Reader = http.NoBody
	switch body := body.(type) {
	case nil:
	case exactJSON:
		content = bytes.NewReader(body)
	default:
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.base.String(), "/")+path, content)
	if err != nil {
		return nil, usageError{err}
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("the API at %s does not answer: %w", c.base.Redacted(), cause(err))
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	raw, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("the API's answer is incomplete: %w", cause(err))
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return nil, refusal(response, raw)
	}
	if answer == nil {
		return response.Header, nil
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return nil, fmt.Errorf("the server at %s is not the API: %w", c.base.Redacted(), err)
	}
	return response.Header, nil
}

func refusal(response *http.Response, raw []byte) *problem {
	p := &problem{}
	mediaType, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")) // else it is no problem of the API's
	if mediaType != "application/problem+json" || json.Unmarshal(raw, p) != nil || p.Detail == "" {
		p.Detail = "the answer is not from the API."
	}
	p.status = response.StatusCode
	if seconds, err := strconv.Atoi(response.Header.Get("Retry-After")); err == nil {
		p.retryAfter = time.Duration(min(max(seconds, 0), 60)) * time.Second
	}
	return p
}

// cause is an error of HTTP's client without the URL, which may hold a token.
func cause(err error) error {
	var around *url.Error
	if errors.As(err, &around) {
		return around.Err
	}
	return err
}
