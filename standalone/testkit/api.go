package testkit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mathub "github.com/mathub/webhooks/clients/go"
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

type (
	// Webhook is the Go client's.
	Webhook = mathub.Webhook
	// Delivery is the Go client's.
	Delivery = mathub.Delivery
	// Event is the Go client's.
	Event = mathub.Event
	// Receipt is the Go client's.
	Receipt = mathub.Receipt
	// Recovery is the Go client's.
	Recovery = mathub.Recovery
)

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

// service is a client of the service API.
func (a *API) service() (*mathub.Service, error) {
	return mathub.NewService(cmp.Or(a.ServiceURL, a.URL), a.ServiceToken, mathub.WithHTTPClient(cmp.Or(a.Client, apiClient)))
}

// succeeded is the answer to a call that has to succeed.
func succeeded[T any](t testing.TB, answer *mathub.Response[T], err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return answer.Value
}

// CreateBot makes a bot and a key for it.
func (a *API) CreateBot(t testing.TB, name string) *Bot {
	t.Helper()
	service, err := a.service()
	if err != nil {
		t.Fatal(err)
	}
	made, err := service.CreateBot(t.Context(), mathub.NewBot{Name: name})
	bot := succeeded(t, made, err)
	key, err := service.CreateKey(t.Context(), bot.ID, nil)
	return &Bot{ID: bot.ID, Key: succeeded(t, key, err).Key, api: a}
}

// PauseBot lets a bot's deliveries wait in the queues until ResumeBot. Those begun within the next 2 s may still be sent.
func (a *API) PauseBot(t testing.TB, botID string) {
	t.Helper()
	service, err := a.service()
	if err != nil {
		t.Fatal(err)
	}
	paused, err := service.PauseDeliveries(t.Context(), mathub.NewPause{Scope: "bot", Value: botID, Reason: "A test asked for it."})
	succeeded(t, paused, err)
}

// ResumeBot ends what PauseBot began.
func (a *API) ResumeBot(t testing.TB, botID string) {
	t.Helper()
	service, err := a.service()
	if err == nil {
		err = service.ResumeDeliveries(t.Context(), &mathub.ResumeDeliveriesParams{Scope: "bot", Value: botID})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// At is the same bot at another app's API.
func (b *Bot) At(a *API) *Bot { return &Bot{ID: b.ID, Key: b.Key, api: a} }

// client is a client of the bot API.
func (b *Bot) client(t testing.TB) *mathub.Client {
	t.Helper()
	client, err := mathub.New(b.api.URL, b.Key, mathub.WithHTTPClient(cmp.Or(b.api.Client, apiClient)))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// Emit emits an event to this bot only, so that tests that share a stack stay apart.
func (b *Bot) Emit(t testing.TB, e Event) Receipt {
	t.Helper()
	e.BotIDs = []string{b.ID}
	return b.api.Emit(t, e)
}

// CreateWebhook subscribes url to the events; secret may be empty for none.
func (b *Bot) CreateWebhook(t testing.TB, url, secret string, events ...string) Webhook {
	t.Helper()
	hook := mathub.NewWebhook{URL: url, Secret: secret}
	for _, event := range events {
		hook.Events = append(hook.Events, mathub.EventType(event))
	}
	answer, err := b.client(t).CreateWebhook(t.Context(), hook)
	return succeeded(t, answer, err)
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

// Webhooks lists the bot's webhooks.
func (b *Bot) Webhooks(t testing.TB) (all []mathub.WebhookDetail) {
	t.Helper()
	for hook, err := range b.client(t).Webhooks(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, hook)
	}
	return all
}

// Webhook reads a webhook.
func (b *Bot) Webhook(t testing.TB, id string) mathub.WebhookDetail {
	t.Helper()
	answer, err := b.client(t).GetWebhook(t.Context(), id)
	return succeeded(t, answer, err)
}

// Patch changes a webhook.
func (b *Bot) Patch(t testing.TB, id string, change mathub.WebhookChange) Webhook {
	t.Helper()
	answer, err := b.client(t).UpdateWebhook(t.Context(), id, change)
	return succeeded(t, answer, err)
}

// SetActive enables or disables a webhook.
func (b *Bot) SetActive(t testing.TB, id string, active bool) Webhook {
	t.Helper()
	return b.Patch(t, id, mathub.WebhookChange{IsActive: &active})
}

// Delete deletes a webhook.
func (b *Bot) Delete(t testing.TB, id string) {
	t.Helper()
	if err := b.client(t).DeleteWebhook(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

// Test sends a test event to a webhook and returns the delivery.
func (b *Bot) Test(t testing.TB, id string) Delivery {
	t.Helper()
	answer, err := b.client(t).TestWebhook(t.Context(), id, nil)
	return succeeded(t, answer, err)
}

// Verify asks a webhook's endpoint whether it wants deliveries, and returns the delivery.
func (b *Bot) Verify(t testing.TB, id string) Delivery {
	t.Helper()
	answer, err := b.client(t).VerifyWebhook(t.Context(), id)
	return succeeded(t, answer, err)
}

// Redeliver sends a delivery's event once more and returns the new delivery.
func (b *Bot) Redeliver(t testing.TB, deliveryID, webhookID string) Delivery {
	t.Helper()
	answer, err := b.client(t).RedeliverDelivery(t.Context(), webhookID, deliveryID)
	return succeeded(t, answer, err)
}

// Recover starts a recovery of what a webhook missed; span may be nil.
func (b *Bot) Recover(t testing.TB, webhookID string, span *mathub.Span) Recovery {
	t.Helper()
	answer, err := b.client(t).RecoverWebhook(t.Context(), webhookID, span)
	return succeeded(t, answer, err)
}

// AwaitRecovery waits until a recovery has ended, for awaitPatience at most since its last step; that Temporal is too busy to
// say how far it has come is no failure of it.
func (b *Bot) AwaitRecovery(t testing.TB, webhookID string) Recovery {
	t.Helper()
	client := b.client(t)
	var last Recovery
	for deadline := time.Now().Add(awaitPatience); ; time.Sleep(100 * time.Millisecond) {
		r := last
		answer, err := client.GetRecovery(t.Context(), webhookID)
		var refused *mathub.Problem
		switch {
		case err == nil:
			if r = answer.Value; r.State != "running" {
				return r
			}
		case !errors.As(err, &refused) || refused.Status != http.StatusServiceUnavailable:
			t.Fatalf("the recovery of webhook %s: %v", webhookID, err)
		}
		if r.Remaining != last.Remaining {
			last, deadline = r, time.Now().Add(awaitPatience)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the recovery of webhook %s stands still: %+v", webhookID, r)
		}
	}
}

// Deliveries lists a webhook's last 50 deliveries, newest first.
func (b *Bot) Deliveries(t testing.TB, id string) []Delivery {
	t.Helper()
	answer, err := b.client(t).ListDeliveries(t.Context(), id, nil)
	return succeeded(t, answer, err)
}

// AwaitDeliveries waits until a webhook's history has n deliveries, at most 50, and returns it. It waits for awaitPatience.
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
