package mathub_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	mathub "github.com/mathub/webhooks/clients/go"
)

// A bot subscribes an endpoint and lists the deliveries that failed.
func Example() {
	ctx := context.Background()
	bot, err := mathub.New("http://127.0.0.1:8080", os.Getenv("MATHUB_BOT_KEY"))
	if err != nil {
		log.Fatal(err)
	}
	webhook, err := bot.CreateWebhook(ctx, mathub.NewWebhook{
		URL: "https://bots.example.org/mathub", Events: mathub.EventTypes{mathub.PostCreated, mathub.Mention},
	})
	if problem := (*mathub.Problem)(nil); errors.As(err, &problem) {
		log.Fatalf("refused with status %d: %v", problem.Status, problem.Errors)
	} else if err != nil {
		log.Fatal(err)
	}
	failed := false
	for delivery, err := range bot.Deliveries(ctx, webhook.Value.ID, mathub.ListDeliveriesParams{Success: &failed}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(delivery.AttemptedAt, delivery.EventType, *delivery.Error)
	}
}
