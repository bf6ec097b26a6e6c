package webhook_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestSummaryNamesWhatAnEventConcerns(t *testing.T) {
	for _, c := range []struct {
		event webhook.EventType
		data  string
		want  string
	}{
		{webhook.PostCreated, `{"postId":"p1","threadId":"t1","body":"QED"}`, "post.created · post p1 in thread t1"},
		{webhook.PostCreated, `{"threadId":"t1", "x":{"postId":"nested"}}`, "post.created · in thread t1"},
		{webhook.PostCreated, `{"postId":17}`, "post.created · post 17"},
		{webhook.PostCreated, `{}`, "post.created"},
		{webhook.ThreadCreated, `{"threadId":"thr_01HQ","projectSlug":"twin-primes"}`, "thread.created · thread thr_01HQ in twin-primes"},
		{webhook.WikiEdited, `{"projectSlug":"p","pageSlug":"notation"}`, "wiki.edited · page notation of p"},
		{webhook.ReviewSubmitted, `{"effortId":"e1","reviewId":"r1"}`, "review.submitted · review r1 of effort e1"},
		// What Markdown, a terminal or a reader could be misled by is left out.
		{webhook.PostCreated, `{"postId":"[x](https://evil.example)","threadId":"t1"}`, "post.created · in thread t1"},
		{webhook.PostCreated, `{"postId":"www.evil.example"}`, "post.created"},
		{webhook.PostCreated, `{"postId":"_a_","threadId":"a__b"}`, "post.created"},
		{webhook.PostCreated, `{"postId":"a\u001b[31m","threadId":"<b>"}`, "post.created"},
		{webhook.PostCreated, `{"postId":"p-","threadId":""}`, "post.created"},
		{webhook.PostCreated, `{"postId":null,"threadId":["t1"]}`, "post.created"},
		{webhook.PostCreated, `{"postId":-1,"threadId":1.5}`, "post.created"},
		{webhook.PostCreated, `{"postId":"p１"}`, "post.created"},
	} {
		require.Equal(t, c.want, webhook.Event{Type: c.event, Data: json.RawMessage(c.data)}.Summary(), c.data)
	}
}

func TestSummaryIsBounded(t *testing.T) {
	long := strings.Repeat("a", 100_000)
	got := webhook.Event{Type: webhook.PostCreated, Data: json.RawMessage(`{"postId":"` + long + `","threadId":"` + long + `"}`)}.Summary()
	require.Equal(t, "post.created · post "+long[:48]+"… in thread "+long[:48]+"…", got)
	require.Less(t, len(got), 200)
}

// TestSummaryIsDrawnFromTheCatalog: every type says what it concerns, by fields that are documented.
func TestSummaryIsDrawnFromTheCatalog(t *testing.T) {
	for _, spec := range webhook.Catalog() {
		got := webhook.Event{Type: spec.Type, Data: spec.ExampleData()}.Summary()
		require.Greater(t, len(got), len(spec.Type)+len(" · "), "%s says nothing of what it concerns", spec.Type)
		for i, named := range strings.Fields(got)[2:] {
			if i%2 == 1 && named != "thread" && named != "effort" {
				require.Contains(t, string(spec.ExampleData()), `"`+named+`"`)
			}
		}
	}
}
