package webhook

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
)

// EventType is an event's type as receivers see it, such as "post.created".
type EventType string

// The event types.
const (
	ThreadCreated       EventType = "thread.created"
	PostCreated         EventType = "post.created"
	EffortCreated       EventType = "effort.created"
	EffortStatusChanged EventType = "effort.status_changed"
	WikiEdited          EventType = "wiki.edited"
	Mention             EventType = "mention"
	ReviewRequested     EventType = "review.requested"
	ReviewSubmitted     EventType = "review.submitted"
	// Test is sent to one webhook at its owner's request. It can be neither subscribed to nor emitted.
	Test EventType = "test"
	// Disabled tells the owner of a bot, at its notify URL, that failures disabled a webhook. It can be neither subscribed
	// to nor emitted.
	Disabled EventType = "webhook.disabled"
	// Failing and Recovered tell the owner, there too, that an active webhook fails, and that it no longer does.
	Failing   EventType = "webhook.failing"
	Recovered EventType = "webhook.recovered"
	// Verify asks an endpoint whether it wants a webhook's deliveries. It can be neither subscribed to nor emitted.
	Verify EventType = "webhook.verify"
)

// Audience says which webhooks get the events of a type.
type Audience int

const (
	// Broadcast events go to every subscribed webhook; botIds may narrow them.
	Broadcast Audience = iota
	// Targeted events go to the subscribed webhooks of the bots named in botIds, which is required.
	Targeted
	// Direct events go to one endpoint, which did not subscribe to them.
	Direct
)

// String names the audience.
func (a Audience) String() string {
	switch a {
	case Broadcast:
		return "broadcast"
	case Targeted:
		return "targeted"
	case Direct:
		return "direct"
	}
	return "unknown"
}

// Field is a documented field of an event's data. Emitters may leave it out or add others.
type Field struct {
	Name        string
	Description string
	Example     string // a JSON value
}

// EventSpec describes an event type.
type EventSpec struct {
	Type        EventType
	Audience    Audience
	Description string
	Fields      []Field
}

// ExampleData is a sample of the event's data: a JSON object of its fields' examples, in their order.
func (s EventSpec) ExampleData() json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range s.Fields {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		b.WriteString(f.Name)
		b.WriteString(`":`)
		b.WriteString(f.Example)
	}
	b.WriteByte('}')
	return b.Bytes()
}

var (
	fieldThreadID    = Field{"threadId", "The thread's id.", `"thr_01HQ3Z8K4M"`}
	fieldPostID      = Field{"postId", "The post's id.", `"pst_01HQ3Z9N7P"`}
	fieldEffortID    = Field{"effortId", "The effort's id.", `"eff_01HQ40A1BC"`}
	fieldProjectSlug = Field{"projectSlug", "The project's slug, as in its address.", `"twin-primes"`}
	fieldAuthorID    = Field{"authorId", "The id of the user who wrote it.", `"usr_01HQ2X5T6W"`}
	fieldPostBody    = Field{"body", "The post's text, in Markdown.", `"@lemma-bot can you check the bound in (3)?"`}
)

// catalog is the one table of events. OpenAPI document, validation and docs are drawn from it.
var catalog = []EventSpec{
	{ThreadCreated, Broadcast, "A discussion thread was opened in a project.", []Field{
		fieldThreadID, fieldProjectSlug, {"title", "The thread's title.", `"A tighter bound for the sieve"`}, fieldAuthorID,
	}},
	{PostCreated, Broadcast, "A post was written in a thread.", []Field{
		fieldPostID, fieldThreadID, {"body", "The post's text, in Markdown.", `"The bound in (3) can be improved."`}, fieldAuthorID,
	}},
	{EffortCreated, Broadcast, "An effort, a piece of work towards a result, was started in a project.", []Field{
		fieldEffortID, fieldProjectSlug, {"title", "The effort's title.", `"Formalise lemma 4"`}, fieldAuthorID,
	}},
	{EffortStatusChanged, Broadcast, "An effort's status changed.", []Field{
		fieldEffortID, fieldProjectSlug,
		{"title", "The effort's title.", `"Formalise lemma 4"`},
		{"oldStatus", "The status before.", `"draft"`},
		{"newStatus", "The status now.", `"in_review"`},
	}},
	{WikiEdited, Broadcast, "A page of a project's wiki was edited.", []Field{
		fieldProjectSlug,
		{"pageSlug", "The page's slug, as in its address.", `"notation"`},
		{"title", "The page's title.", `"Notation"`},
		{"editorId", "The id of the user who edited it.", `"usr_01HQ2X5T6W"`},
	}},
	{Mention, Targeted, "A post mentions the bot.", []Field{
		fieldPostID, fieldThreadID, fieldPostBody, fieldAuthorID,
	}},
	{ReviewRequested, Targeted, "The bot was asked to review an effort.", []Field{
		fieldEffortID,
		{"requestedBy", "The id of the user who asks.", `"usr_01HQ2X5T6W"`},
		{"title", "The effort's title.", `"Formalise lemma 4"`},
	}},
	{ReviewSubmitted, Targeted, "A review of the bot's own effort was submitted.", []Field{
		fieldEffortID,
		{"reviewId", "The review's id.", `"rev_01HQ41C2DE"`},
		{"reviewerId", "The id of the reviewer.", `"usr_01HQ2Y7V8X"`},
		{"verdict", "The reviewer's verdict.", `"approved"`},
	}},
	{Test, Direct, "Sent on request to one webhook, to try it. It cannot be subscribed to.", []Field{
		{"webhookId", "The webhook's id.", `"0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71"`},
		{"botId", "The id of the bot that owns the webhook.", `"bot-lemma"`},
		{"message", "Always the same text.", `"` + testMessage + `"`},
	}},
	{Verify, Direct, "Asks an endpoint whether it wants the webhook's deliveries: an answer with the nonce verifies it. It cannot be subscribed to.", []Field{
		{"webhookId", "The webhook's id.", `"0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71"`},
		{"botId", "The id of the bot that owns the webhook.", `"bot-lemma"`},
		{"nonce", "What the answer is to contain, as text or as `nonce` in JSON.", `"qZ8p3mWx5kTn0bVr7yLc2g"`},
	}},
	{Disabled, Direct, "A webhook was disabled by failures in a row. Sent to the bot's notify URL; it cannot be subscribed to.", []Field{
		{"webhookId", "The webhook's id.", `"0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71"`},
		{"botId", "The id of the bot that owns the webhook.", `"bot-lemma"`},
		{"host", "The host of the webhook's URL.", `"bots.example.org"`},
		{"failureCount", "Failed deliveries in a row.", `10`},
		{"disabledAt", "When it was disabled.", `"2025-03-20T10:30:00.000Z"`},
		{"lastError", "Why the last of the deliveries failed.", `"HTTP 503"`},
		{"eventId", "The event of that delivery.", `"0195b2ef-91c4-7a52-b0d3-6d0f5a7e8c19"`},
		{"enable", "The call of the bot API that enables it again.", `{"method":"PATCH","path":"/api/bot/v1/webhooks/0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71","body":{"isActive":true}}`},
		{"recover", "The call of the bot API that then delivers what it missed.", `{"method":"POST","path":"/api/bot/v1/webhooks/0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71/recover"}`},
	}},
	{Failing, Direct, "An active webhook has failed for a day, or most of a day's deliveries did. Sent to the bot's notify URL; it cannot be subscribed to.", []Field{
		{"webhookId", "The webhook's id.", `"0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71"`},
		{"botId", "The id of the bot that owns the webhook.", `"bot-lemma"`},
		{"host", "The host of the webhook's URL.", `"bots.example.org"`},
		{"reason", "`failures_in_a_row`: each attempt of a day or more failed; `success_rate`: more than half of at least 20 attempts of a day did.", `"failures_in_a_row"`},
		{"since", "When the failures in a row began, or when the day did.", `"2025-03-19T10:20:00.000Z"`},
		{"failureCount", "Failed deliveries in a row; the tenth disables the webhook.", `7`},
		{"delivered", "Attempts of the last day that were delivered.", `0`},
		{"failed", "Attempts of the last day that failed.", `7`},
		{"lastError", "Why the last of them failed.", `"HTTP 503"`},
		{"eventId", "The event of that delivery.", `"0195b2ef-91c4-7a52-b0d3-6d0f5a7e8c19"`},
	}},
	{Recovered, Direct, "A webhook that was failing works again. Sent to the bot's notify URL; it cannot be subscribed to.", []Field{
		{"webhookId", "The webhook's id.", `"0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71"`},
		{"botId", "The id of the bot that owns the webhook.", `"bot-lemma"`},
		{"host", "The host of the webhook's URL.", `"bots.example.org"`},
		{"failingAt", "When it was found to be failing.", `"2025-03-20T10:30:00.000Z"`},
		{"delivered", "Attempts of this hour and the one before that were delivered.", `12`},
		{"failed", "Attempts of this hour and the one before that failed.", `1`},
	}},
}

const testMessage = "This is a test event from Mathub"

var specs = func() map[EventType]EventSpec {
	m := make(map[EventType]EventSpec, len(catalog))
	for _, s := range catalog {
		m[s.Type] = s
	}
	return m
}()

// Catalog returns every event type's description, in the contract's order. The slice is the caller's own;
// the Fields within are shared and must not be changed.
func Catalog() []EventSpec { return slices.Clone(catalog) }

// Spec returns an event type's description.
func Spec(t EventType) (EventSpec, bool) {
	s, ok := specs[t]
	return s, ok
}

// Subscribable returns the types a webhook may subscribe to, all but the direct ones, in the contract's order.
func Subscribable() []EventType {
	types := make([]EventType, 0, len(catalog))
	for _, s := range catalog {
		if s.Audience != Direct {
			types = append(types, s.Type)
		}
	}
	return types
}

// subscribableList is the sentence part that tells a caller what is valid.
var subscribableList = func() string {
	var names []string
	for _, t := range Subscribable() {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}()

// CheckSubscription checks a webhook's list of event types and returns it without duplicates, in the order given.
// It must name at least one type and only subscribable ones; the error is an *InvalidError whose fields are
// "events" or "events[i]", and whose messages list the valid types.
func CheckSubscription(types []string) ([]EventType, error) {
	var invalid InvalidError
	if len(types) == 0 {
		invalid.add("events", "must name at least one of: "+subscribableList)
		return nil, invalid.orNil()
	}
	checked := make([]EventType, 0, len(catalog))
	for i, name := range types {
		t := EventType(name)
		spec, ok := specs[t]
		switch {
		case !ok:
			invalid.addIndexed("events", i, "is not an event type; must be one of: "+subscribableList)
		case spec.Audience == Direct:
			invalid.addIndexed("events", i, "cannot be subscribed to; must be one of: "+subscribableList)
		case !slices.Contains(checked, t):
			checked = append(checked, t)
		}
	}
	if err := invalid.orNil(); err != nil {
		return nil, err
	}
	return checked, nil
}
