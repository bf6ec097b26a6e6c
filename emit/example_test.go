package emit_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/emit"
)

// A post was written; its event is emitted over the service API. The id is derived from the post, so that whoever does
// this again, after a crash, emits the same event.
func ExampleHTTP() {
	server := httptest.NewServer(&service{answers: []http.HandlerFunc{accept}}) // in the place of https://webhooks.internal
	defer server.Close()
	webhooks := &emit.HTTP{URL: server.URL, Token: "t0ken"}

	event, err := emit.New(emit.PostCreated{
		PostID: "pst_1", ThreadID: "thr_1", Body: "The bound in (3) can be improved.", AuthorID: "usr_1",
	})
	if err != nil {
		panic(err)
	}
	event.ID = emit.ID("post.created", "pst_1")

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // for how long to try
	defer cancel()
	receipt, err := webhooks.Event(ctx, event)
	if err != nil {
		panic(err)
	}
	fmt.Println("accepted before:", receipt.Duplicate)
	// Output: accepted before: true
}

// The same over Temporal, for a backend that has a Temporal client anyway.
func ExampleEvent() {
	temporal, err := client.Dial(client.Options{HostPort: os.Getenv("TEMPORAL_ADDRESS")})
	if err != nil {
		panic(err)
	}
	defer temporal.Close()

	event, err := emit.New(emit.Mention{PostID: "pst_1", ThreadID: "thr_1", Body: "@lemma-bot?", AuthorID: "usr_1"})
	if err != nil {
		panic(err)
	}
	event.ID = emit.ID("mention", "pst_1", "bot-lemma")
	event.BotIDs = []string{"bot-lemma"} // a mention goes to the bots it names

	receipt, err := emit.Event(context.Background(), temporal, event)
	if err != nil {
		panic(err)
	}
	fmt.Println(receipt.WorkflowID == "event-"+event.ID)
	// Output: true
}

// Fields beyond the documented ones go into Extra.
func ExampleNew() {
	event, err := emit.New(emit.WikiEdited{
		ProjectSlug: "twin-primes", PageSlug: "notation", Title: "Notation", EditorID: "usr_1",
		Extra: emit.Extra{"revision": 12},
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(event.Type, string(event.Data))
	// Output: wiki.edited {"projectSlug":"twin-primes","pageSlug":"notation","title":"Notation","editorId":"usr_1","revision":12}
}
