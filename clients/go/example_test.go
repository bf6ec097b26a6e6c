package mathub_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

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

// A bot's endpoint: the handler verifies what comes, and the function gets the typed event.
func ExampleReceiver_Handler() {
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	receiver, err := mathub.NewReceiver(secret)
	if err != nil {
		log.Fatal(err)
	}
	endpoint := receiver.Handler(func(_ context.Context, event mathub.Received) error {
		if post, ok := event.Data.(mathub.PostCreatedData); ok {
			fmt.Println(event.ID, post.Body)
		}
		return nil
	})

	// The test of such an endpoint signs what Mathub would send.
	body := []byte(`{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{"postId":"pst_1","body":"QED"}}`)
	for _, id := range []string{"evt_1", "evt_2"} {
		request := httptest.NewRequest(http.MethodPost, "/mathub", bytes.NewReader(body))
		request.Header = mathub.Sign(body, secret, "evt_1", time.Now())
		request.Header.Set("webhook-id", id) // "evt_2" is not what was signed
		answer := httptest.NewRecorder()
		endpoint.ServeHTTP(answer, request)
		fmt.Println(answer.Code)
	}
	// Output:
	// evt_1 QED
	// 204
	// 401
}
