package testkit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// API is a client of a product's REST API.
type API struct {
	URL string
	// ServiceURL is where the service API is; with the rest when empty.
	ServiceURL   string
	ServiceToken string
	// Client makes the requests; one that keeps many connections when nil.
	Client *http.Client
}

// Bot is a client with a bot's key.
type Bot struct {
	ID, Key string
	api     *API
}

// Webhook is a webhook as the API shows it.
type Webhook struct {
	ID           string   `json:"id"`
	BotID        string   `json:"botId"`
	URL          string   `json:"url"`
	Events       []string `json:"events"`
	IsActive     bool     `json:"isActive"`
	FailureCount int      `json:"failureCount"`
	HasSecret    bool     `json:"hasSecret"`
	Verified     bool     `json:"verified"`
	DuplicateOf  string   `json:"duplicateOf"`
	DisabledAt   *string  `json:"disabledAt"`
	CreatedAt    string   `json:"createdAt"`
	UpdatedAt    string   `json:"updatedAt"`
}

// Delivery is a row of a webhook's history as the API shows it.
type Delivery struct {
	ID           string          `json:"id"`
	WebhookID    string          `json:"webhookId"`
	EventID      string          `json:"eventId"`
	EventType    string          `json:"eventType"`
	Payload      json.RawMessage `json:"payload"`
	Attempt      int             `json:"attempt"`
	StatusCode   *int            `json:"statusCode"`
	ResponseBody *string         `json:"responseBody"`
	Error        *string         `json:"error"`
	Success      bool            `json:"success"`
	DurationMS   int             `json:"durationMs"`
	AttemptedAt  string          `json:"attemptedAt"`
}

// Event is an event to emit. Data defaults to an empty object.
type Event struct {
	ID        string          `json:"id,omitempty"`
	Type      string          `json:"event"`
	Timestamp string          `json:"timestamp,omitempty"`
	Data      json.RawMessage `json:"data"`
	BotIDs    []string        `json:"botIds,omitempty"`
}

// Receipt is the answer to an emitted event.
type Receipt struct {
	ID         string `json:"id"`
	WorkflowID string `json:"workflowId"`
	Duplicate  bool   `json:"duplicate"`
}

// Answered is an answer of the API.
type Answered struct {
	Status int
	Header http.Header
	Body   []byte
}

// apiClient keeps enough connections for many goroutines at once.
var apiClient = &http.Client{
	Timeout:   30 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second},
}

// Do sends a request with a bearer token, unless that is empty, and a body: nil for none, []byte as it is, anything
// else as JSON. The error is one of transport: a status is none.
func (a *API) Do(ctx context.Context, method, path, token string, body any) (Answered, error) {
	var content io.Reader = http.NoBody
	switch body := body.(type) {
	case nil:
	case []byte:
		content = bytes.NewReader(body)
	default:
		encoded, err := json.Marshal(body)
		if err != nil {
			return Answered{}, err
		}
		content = bytes.NewReader(encoded)
	}
	base := a.URL
	if a.ServiceURL != "" && strings.HasPrefix(path, "/api/internal/") {
		base = a.ServiceURL
	}
	request, err := http.NewRequestWithContext(ctx, method, base+path, content)
	if err != nil {
		return Answered{}, err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	client := a.Client
	if client == nil {
		client = apiClient
	}
	response, err := client.Do(request)
	if err != nil {
		return Answered{}, err
	}
	defer response.Body.Close() //nolint:errcheck // read to its end
	answer, err := io.ReadAll(response.Body)
	return Answered{Status: response.StatusCode, Header: response.Header, Body: answer}, err
}

// must sends a request that has to be answered with the given status, and decodes the answer.
func must[T any](t testing.TB, a *API, method, path, token string, body any, status int) T {
	t.Helper()
	var v T
	answer, err := a.Do(t.Context(), method, path, token, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if answer.Status != status {
		t.Fatalf("%s %s: status %d instead of %d: %s", method, path, answer.Status, status, answer.Body)
	}
	if len(answer.Body) == 0 {
		return v
	}
	if err := json.Unmarshal(answer.Body, &v); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, answer.Body)
	}
	return v
}

// CreateBot makes a bot and a key for it.
func (a *API) CreateBot(t testing.TB, name string) *Bot {
	t.Helper()
	bot := must[struct {
		ID string `json:"id"`
	}](t, a, http.MethodPost, "/api/internal/v1/bots", a.ServiceToken, map[string]string{"name": name}, http.StatusCreated)
	key := must[struct {
		Key string `json:"key"`
	}](t, a, http.MethodPost, "/api/internal/v1/bots/"+bot.ID+"/keys", a.ServiceToken, nil, http.StatusCreated)
	return &Bot{ID: bot.ID, Key: key.Key, api: a}
}

// Emit emits an event, which must be accepted.
func (a *API) Emit(t testing.TB, e Event) Receipt {
	t.Helper()
	receipt, err := a.TryEmit(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return receipt
}

// acceptedPost makes a call that accepts events. One that is turned away for want of room, so that nothing of it was accepted,
// is made again after the pause that the answer asks for, as the clients do.
func (a *API) acceptedPost(ctx context.Context, path string, body any) (Answered, error) {
	for {
		answer, err := a.Do(ctx, http.MethodPost, path, a.ServiceToken, body)
		if err != nil || answer.Status != http.StatusServiceUnavailable || !bytes.Contains(answer.Body, []byte("Nothing was accepted")) {
			return answer, err
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return answer, nil
		}
	}
}

// TryEmit emits an event; the error says why it was not accepted, or that no answer came. It may be called by many
// goroutines.
func (a *API) TryEmit(ctx context.Context, e Event) (Receipt, error) {
	if e.Data == nil {
		e.Data = json.RawMessage("{}")
	}
	answer, err := a.acceptedPost(ctx, "/api/internal/v1/events", e)
	if err != nil {
		return Receipt{}, err
	}
	if answer.Status != http.StatusAccepted {
		return Receipt{}, fmt.Errorf("emit: status %d: %s", answer.Status, answer.Body)
	}
	var receipt Receipt
	err = json.Unmarshal(answer.Body, &receipt)
	return receipt, err
}

// TryEmitBatch emits up to 100 events, all or none, as TryEmit does one.
func (a *API) TryEmitBatch(ctx context.Context, events []Event) ([]Receipt, error) {
	for i := range events {
		if events[i].Data == nil {
			events[i].Data = json.RawMessage("{}")
		}
	}
	answer, err := a.acceptedPost(ctx, "/api/internal/v1/events/batch", map[string]any{"events": events})
	if err != nil {
		return nil, err
	}
	if answer.Status != http.StatusAccepted {
		return nil, fmt.Errorf("emit a batch: status %d: %s", answer.Status, answer.Body)
	}
	var receipts []Receipt
	err = json.Unmarshal(answer.Body, &receipts)
	return receipts, err
}

// At is the same bot at another app's API.
func (b *Bot) At(a *API) *Bot { return &Bot{ID: b.ID, Key: b.Key, api: a} }

// Emit emits an event to this bot only, so that tests that share a stack stay apart.
func (b *Bot) Emit(t testing.TB, e Event) Receipt {
	t.Helper()
	e.BotIDs = []string{b.ID}
	return b.api.Emit(t, e)
}

// CreateWebhook subscribes url to the events; secret may be empty for none.
func (b *Bot) CreateWebhook(t testing.TB, url, secret string, events ...string) Webhook {
	t.Helper()
	body := map[string]any{"url": url, "events": events}
	if secret != "" {
		body["secret"] = secret
	}
	return must[Webhook](t, b.api, http.MethodPost, webhooksPath, b.Key, body, http.StatusCreated)
}

// CreateWebhooks subscribes so many URLs to the events, several at once.
func (b *Bot) CreateWebhooks(t testing.TB, count int, url func(i int) string, events ...string) {
	t.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < count && !t.Failed(); i = int(next.Add(1)) - 1 {
				b.CreateWebhook(t, url(i), "", events...)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

const webhooksPath = "/api/bot/v1/webhooks"

// Webhooks lists the bot's webhooks.
func (b *Bot) Webhooks(t testing.TB) []Webhook {
	t.Helper()
	return must[[]Webhook](t, b.api, http.MethodGet, webhooksPath, b.Key, nil, http.StatusOK)
}

// Webhook reads a webhook.
func (b *Bot) Webhook(t testing.TB, id string) Webhook {
	t.Helper()
	return must[Webhook](t, b.api, http.MethodGet, webhooksPath+"/"+id, b.Key, nil, http.StatusOK)
}

// Patch changes a webhook.
func (b *Bot) Patch(t testing.TB, id string, change map[string]any) Webhook {
	t.Helper()
	return must[Webhook](t, b.api, http.MethodPatch, webhooksPath+"/"+id, b.Key, change, http.StatusOK)
}

// Delete deletes a webhook.
func (b *Bot) Delete(t testing.TB, id string) {
	t.Helper()
	must[json.RawMessage](t, b.api, http.MethodDelete, webhooksPath+"/"+id, b.Key, nil, http.StatusNoContent)
}

// Test sends a test event to a webhook and returns the delivery.
func (b *Bot) Test(t testing.TB, id string) Delivery {
	t.Helper()
	return must[Delivery](t, b.api, http.MethodPost, webhooksPath+"/"+id+"/test", b.Key, nil, http.StatusOK)
}

// Verify asks a webhook's endpoint whether it wants deliveries, and returns the delivery.
func (b *Bot) Verify(t testing.TB, id string) Delivery {
	t.Helper()
	return must[Delivery](t, b.api, http.MethodPost, webhooksPath+"/"+id+"/verify", b.Key, nil, http.StatusOK)
}

// Redeliver sends a delivery's event once more and returns the new delivery.
func (b *Bot) Redeliver(t testing.TB, deliveryID, webhookID string) Delivery {
	t.Helper()
	return must[Delivery](t, b.api, http.MethodPost, webhooksPath+"/"+webhookID+"/deliveries/"+deliveryID+"/redeliver", b.Key, nil, http.StatusOK)
}

// Recovery is the progress of a recovery as the API shows it.
type Recovery struct {
	State     string  `json:"state"`
	Found     int     `json:"found"`
	Delivered int     `json:"delivered"`
	Failed    int     `json:"failed"`
	Remaining int     `json:"remaining"`
	LastError *string `json:"lastError"`
}

// Recover starts a recovery of what a webhook missed; span may be nil.
func (b *Bot) Recover(t testing.TB, webhookID string, span map[string]any) Recovery {
	t.Helper()
	var body any
	if span != nil {
		body = span
	}
	return must[Recovery](t, b.api, http.MethodPost, webhooksPath+"/"+webhookID+"/recover", b.Key, body, http.StatusAccepted)
}

// AwaitRecovery waits until a recovery has ended, for a minute at most since its last step; that Temporal is too busy to
// say how far it has come is no failure of it.
func (b *Bot) AwaitRecovery(t testing.TB, webhookID string) Recovery {
	t.Helper()
	var last Recovery
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		answer, err := b.api.Do(t.Context(), http.MethodGet, webhooksPath+"/"+webhookID+"/recover", b.Key, nil)
		if err != nil {
			t.Fatal(err)
		}
		r := last
		switch answer.Status {
		case http.StatusOK:
			if err := json.Unmarshal(answer.Body, &r); err != nil {
				t.Fatal(err)
			}
			if r.State != "running" {
				return r
			}
		case http.StatusServiceUnavailable:
		default:
			t.Fatalf("the recovery of webhook %s: status %d: %s", webhookID, answer.Status, answer.Body)
		}
		if r.Remaining != last.Remaining {
			last, deadline = r, time.Now().Add(time.Minute)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the recovery of webhook %s stands still: %+v", webhookID, r)
		}
	}
}

// Deliveries lists a webhook's last 50 deliveries, newest first.
func (b *Bot) Deliveries(t testing.TB, id string) []Delivery {
	t.Helper()
	return must[[]Delivery](t, b.api, http.MethodGet, webhooksPath+"/"+id+"/deliveries", b.Key, nil, http.StatusOK)
}

// AwaitDeliveries waits until a webhook's history has n deliveries, at most 50, and returns it. It waits for a minute.
func (b *Bot) AwaitDeliveries(t testing.TB, id string, n int) []Delivery {
	t.Helper()
	deadline := time.Now().Add(awaitPatience)
	for {
		deliveries := b.Deliveries(t, id)
		if len(deliveries) >= n {
			return deliveries
		}
		if time.Now().After(deadline) {
			t.Fatalf("webhook %s has %d of %d deliveries after %s", id, len(deliveries), n, awaitPatience)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
