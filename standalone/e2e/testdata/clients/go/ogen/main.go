// A bot and a backend on the client that ogen makes.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/go-faster/jx"

	"github.com/mathub/webhooks/clients/ogen/client"
)

type credentials struct{}

func (credentials) BotKey(context.Context, client.OperationName) (client.BotKey, error) {
	return client.BotKey{Token: os.Getenv("MATHUB_BOT_KEY")}, nil
}

func (credentials) ServiceToken(context.Context, client.OperationName) (client.ServiceToken, error) {
	return client.ServiceToken{Token: os.Getenv("MATHUB_SERVICE_TOKEN")}, nil
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// is is an answer of the type that is wanted, or else an error.
func is[T any](answer any, err error) (T, error) {
	wanted, ok := answer.(T)
	if err == nil && !ok {
		err = fmt.Errorf("the answer is a %T: %+v", answer, answer)
	}
	return wanted, err
}

func run(ctx context.Context) error {
	c, err := client.NewClient(os.Getenv("MATHUB_API"), credentials{})
	if err != nil {
		return err
	}
	made, err := is[*client.WebhookHeaders](c.CreateWebhook(ctx, &client.NewWebhook{
		URL: client.EndpointURL(os.Getenv("RECEIVER")), Events: client.EventTypes{client.EventTypePostCreated},
	}))
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	hook := made.Response.ID
	if _, err := is[*client.ListWebhooksOKHeaders](c.ListWebhooks(ctx, client.ListWebhooksParams{})); err != nil {
		return fmt.Errorf("list: %w", err)
	}
	if _, err := is[*client.WebhookDetail](c.GetWebhook(ctx, client.GetWebhookParams{ID: hook.String()})); err != nil {
		return fmt.Errorf("get: %w", err)
	}
	if _, err := is[*client.Webhook](c.UpdateWebhook(ctx, &client.WebhookChange{IsActive: client.NewOptBool(true)}, client.UpdateWebhookParams{ID: hook.String()})); err != nil {
		return fmt.Errorf("change: %w", err)
	}
	if _, err := is[*client.Receipt](c.EmitEvent(ctx, &client.Event{Event: client.EventTypePostCreated, Data: client.EventData{"postId": jx.Raw(`"p1"`)}})); err != nil {
		return fmt.Errorf("emit: %w", err)
	}
	for {
		list, err := is[*client.ListDeliveriesOKHeaders](c.ListDeliveries(ctx, client.ListDeliveriesParams{ID: hook.String()}))
		if err != nil {
			return fmt.Errorf("deliveries: %w", err)
		}
		if len(list.Response) > 0 {
			d := list.Response[0]
			if data := string(d.Payload["data"]); data != os.Getenv("DATA") {
				return fmt.Errorf("the delivery's data is %s", data)
			}
			if _, err := is[*client.DeliveryDetail](c.GetDelivery(ctx, client.GetDeliveryParams{ID: hook.String(), DeliveryId: d.ID.String()})); err != nil {
				return fmt.Errorf("delivery: %w", err)
			}
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	page, err := is[*client.EventPageHeaders](c.PollEvents(ctx, client.PollEventsParams{}))
	if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	last := page.Response.Events[len(page.Response.Events)-1]
	if postID := string(last.Data["postId"]); postID != `"p1"` || last.Event != os.Getenv("LAST_TYPE") {
		return fmt.Errorf("the last event is %+v", last)
	}
	return nil
}
