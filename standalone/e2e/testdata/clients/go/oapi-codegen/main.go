// A bot and a backend on the client that oapi-codegen makes.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mathub/webhooks/clients/oapi-codegen/client"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func authorize(_ context.Context, request *http.Request) error {
	token := os.Getenv("MATHUB_BOT_KEY")
	if strings.HasPrefix(request.URL.Path, "/api/internal/") {
		token = os.Getenv("MATHUB_SERVICE_TOKEN")
	}
	request.Header.Set("Authorization", "Bearer "+token)
	return nil
}

// read is an answer's decoded body, where it came to one.
func read[T any](body *T, raw []byte) (T, error) {
	if body == nil {
		var none T
		return none, fmt.Errorf("the answer is %s", raw)
	}
	return *body, nil
}

func run(ctx context.Context) error {
	c, err := client.NewClientWithResponses(os.Getenv("MATHUB_API"), client.WithRequestEditorFn(authorize))
	if err != nil {
		return err
	}
	made, err := c.CreateWebhookWithResponse(ctx, client.NewWebhook{Url: os.Getenv("RECEIVER"), Events: client.EventTypes{client.EventTypePostCreated}})
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	hook, err := read(made.JSON201, made.Body)
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	id, active := hook.Id.String(), true
	if list, err := c.ListWebhooksWithResponse(ctx, nil); err != nil || list.JSON200 == nil {
		return fmt.Errorf("list: %w", err)
	}
	if detail, err := c.GetWebhookWithResponse(ctx, id); err != nil || detail.JSON200 == nil {
		return fmt.Errorf("get: %w", err)
	}
	if changed, err := c.UpdateWebhookWithResponse(ctx, id, client.WebhookChange{IsActive: &active}); err != nil || changed.JSON200 == nil {
		return fmt.Errorf("change: %w", err)
	}
	if emitted, err := c.EmitEventWithResponse(ctx, client.Event{Event: client.EventTypePostCreated, Data: map[string]any{"postId": "p1"}}); err != nil || emitted.JSON202 == nil {
		return fmt.Errorf("emit: %w", err)
	}
	for {
		list, err := c.ListDeliveriesWithResponse(ctx, id, nil)
		if err != nil {
			return fmt.Errorf("deliveries: %w", err)
		}
		deliveries, err := read(list.JSON200, list.Body)
		if err != nil {
			return fmt.Errorf("deliveries: %w", err)
		}
		if len(deliveries) > 0 {
			if data, _ := json.Marshal(deliveries[0].Payload["data"]); string(data) != os.Getenv("DATA") {
				return fmt.Errorf("the delivery's data is %s", data)
			}
			if detail, err := c.GetDeliveryWithResponse(ctx, id, deliveries[0].Id.String()); err != nil || detail.JSON200 == nil {
				return fmt.Errorf("delivery: %w", err)
			}
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	polled, err := c.PollEventsWithResponse(ctx, nil)
	if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	page, err := read(polled.JSON200, polled.Body)
	if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	if last := page.Events[len(page.Events)-1]; last.Data["postId"] != "p1" || last.Event != os.Getenv("LAST_TYPE") {
		return fmt.Errorf("the last event is %+v", last)
	}
	return nil
}
