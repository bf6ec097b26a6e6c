package webhook_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// batchOf is the body that holds these events.
func batchOf(events ...string) string { return `{"events":[` + strings.Join(events, ",") + `]}` }

const plain = `{"event":"post.created","data":{}}`

func TestParseBatch(t *testing.T) {
	events, err := webhook.ParseBatch([]byte(` { "events" : [ {"id":"e1","event":"mention","data":{ "n" : 1.10 },"botIds":["a","b","a"]} ,` + "\n" + plain + ` ] } `))
	require.NoError(t, err)
	require.Equal(t, []webhook.Event{
		{ID: "e1", Type: webhook.Mention, Data: json.RawMessage(`{ "n" : 1.10 }`), BotIDs: []string{"a", "b"}},
		{Type: webhook.PostCreated, Data: json.RawMessage(`{}`)},
	}, events)
}

// TestAnEventIsTheSameInABatchAsAlone, to the digit and the deepest nesting, in both parsers.
func TestAnEventIsTheSameInABatchAsAlone(t *testing.T) {
	nested := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	for name, data := range map[string]string{
		"numbers":    `{"a":-0,"b":1e400,"c":1.0,"d":1E+2,"e":0.10,"f":9007199254740993,"g":12345678901234567890.12345678901234567890}`,
		"escapes":    `{"s":"\/\b\f\n\r\t\"\\","t":"\u00e9é","u":"\ud83d\ude00"}`,
		"HTML":       `{"s":"<a href='x'>&amp;</a>","t":"\u003c"}`,
		"separators": "{\"s\":\"\u2028\u2029\"}",
		"brackets":   `{"s":"]}],[{","t":"\\\"]"}`,
		"space":      "{ \"x\"\t: [ 1 ,\r\n2 ] }",
		"deepest":    nested(webhook.MaxJSONDepth - 2), // within the event and its data
	} {
		t.Run(name, func(t *testing.T) {
			raw := `{"id":"e1","event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":` + data + `}`
			alone, err := webhook.ParseEvent([]byte(raw))
			require.NoError(t, err)
			require.Equal(t, data, string(alone.Data))
			events, err := webhook.ParseBatch([]byte(batchOf(plain, raw)))
			require.NoError(t, err)
			require.Equal(t, alone, events[1])
			require.NoError(t, webhook.ValidateBatch(events))
			accepted, faults, err := webhook.ParseAcceptedBatch(webhook.BatchJSON(events))
			require.NoError(t, err)
			require.Empty(t, faults)
			require.Equal(t, events, accepted)
			require.Equal(t, `[`+plain+`,`+raw+`]`, string(webhook.BatchJSON(events)))
		})
	}

	deep := `{"event":"post.created","data":` + nested(webhook.MaxJSONDepth-1) + `}`
	_, err := webhook.ParseEvent([]byte(deep))
	require.ErrorContains(t, err, "nested deeper than 98")
	_, err = webhook.ParseBatch([]byte(batchOf(plain, deep)))
	require.ErrorContains(t, err, "events[1]: nested deeper than 98")
	_, faults, err := webhook.ParseAcceptedBatch([]byte("[" + plain + "," + deep + "]"))
	require.NoError(t, err)
	require.ErrorContains(t, faults[1], "nested deeper than 98")
}

// TestParseBatchRefusesWhatIsNoBatch: an InvalidError names fields, a SyntaxError is about the whole.
func TestParseBatchRefusesWhatIsNoBatch(t *testing.T) {
	same := `{"id":"same","event":"post.created","data":{}}`
	for _, c := range []struct{ name, input, field, message string }{
		{"missing", `{}`, "events", "is required"},
		{"null", `{"events":null}`, "events", "is required"},
		{"an object", `{"events":` + plain + `}`, "events", "must be an array"},
		{"a string", `{"events":"[]"}`, "events", "must be an array"},
		{"none", `{"events":[]}`, "events", "at least one"},
		{"101", batchOf(slices.Repeat([]string{plain}, 101)...), "events", "at most 100 events"},
		{"too large", batchOf(`{"event":"post.created","data":{"a":"` + strings.Repeat("x", webhook.MaxBatchBytes) + `"}}`), "events", "at most 1048576 bytes"},
		{"too large with space", batchOf(plain) + strings.Repeat(" ", webhook.MaxBatchBytes), "events", "at most 1048576 bytes"},
		{"a null", batchOf(plain, "null"), "events[1]", "must be a JSON object"},
		{"a number", batchOf("1"), "events[0]", "must be a JSON object"},
		{"an array", batchOf("[]", plain), "events[0]", "must be a JSON object"},
		{"unknown member", batchOf(plain, plain, plain, `{"event":"post.created","data":{},"urgent":true}`), "events[3]", `unknown field "urgent"`},
		{"another case", batchOf(`{"event":"post.created","Data":{}}`), "events[0]", `use "data"): unknown field "Data"`},
		{"no data", batchOf(plain, plain, plain, `{"event":"post.created"}`), "events[3].data", "is required"},
		{"an unknown type", batchOf(plain, `{"event":"post.deleted","data":{}}`), "events[1].event", "is not an event type"},
		{"no audience", batchOf(`{"event":"mention","data":{}}`), "events[0].botIds", "is required"},
		{"a bad bot", batchOf(plain, `{"event":"mention","data":{},"botIds":["a",1]}`), "events[1].botIds[1]", "must be a string"},
		{"an event too large", batchOf(plain, `{"event":"post.created","data":{"a":"`+strings.Repeat("x", webhook.MaxEventBytes)+`"}}`), "events[1].data", "at most 262144 bytes"},
		{"a name twice in an event", batchOf(plain, `{"event":"post.created","data":{"a":1,"a":2}}`), "events[1]", `duplicate name "data/a"`},
		{"no UTF-8 in an event", batchOf(plain, plain, "{\"event\":\"post.created\",\"data\":{\"a\":\"\xff\"}}"), "events[2]", "not valid UTF-8"},
		{"half a pair in an event", batchOf(`{"event":"post.created","data":{"a":"\ud800"}}`, plain), "events[0]", "unpaired surrogate"},
		{"an event too deep", batchOf(plain, `{"event":"post.created","data":{"a":`+strings.Repeat("[", 97)+strings.Repeat("]", 97)+`}}`), "events[1]", "nested deeper than 98"},
		{"an id twice", batchOf(same, plain, plain, same), "events[3].id", "is the same as that of events[0]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			events, err := webhook.ParseBatch([]byte(c.input))
			var invalid *webhook.InvalidError
			require.ErrorAs(t, err, &invalid)
			require.Nil(t, events)
			require.Len(t, invalid.Fields, 1)
			require.Equal(t, c.field, invalid.Fields[0].Field)
			require.Contains(t, invalid.Fields[0].Message, c.message)
		})
	}
	for _, c := range []struct{ name, input, field, message string }{
		{"empty", "", "", "empty"},
		{"the array by itself", "[" + plain + "]", "", "must be a JSON object"},
		{"another member", `{"events":[` + plain + `],"atomic":true}`, "atomic", "unknown field"},
		{"events twice", `{"events":[` + plain + `],"events":[]}`, "events", "duplicate name"},
		{"more after it", batchOf(plain) + "x", "", "unexpected data after"},
		{"cut off", batchOf(plain)[:20], "", "unexpected end of input"},
		{"a trailing comma", `{"events":[` + plain + `,]}`, "", "not valid JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := webhook.ParseBatch([]byte(c.input))
			var syntax *webhook.SyntaxError
			require.ErrorAs(t, err, &syntax)
			require.Equal(t, c.field, syntax.Field)
			require.Contains(t, syntax.Message, c.message)
		})
	}
}

func TestABatchOfTheGreatestSizeIsTaken(t *testing.T) {
	hundred := slices.Repeat([]string{plain}, webhook.MaxBatchEvents)
	events, err := webhook.ParseBatch([]byte(batchOf(hundred...)))
	require.NoError(t, err)
	require.Len(t, events, webhook.MaxBatchEvents)

	// To the byte, in what is read and in what is made.
	for over := range 2 {
		events = nil
		left := webhook.MaxBatchBytes + over - len(batchOf())
		for left > 0 {
			e := webhook.Event{Type: webhook.PostCreated}
			around := len(`,{"event":"post.created","data":{"a":""}}`)
			size := min(left, webhook.MaxEventBytes-1000)
			if len(events) == 0 {
				around-- // no comma before it
			}
			e.Data = fmt.Appendf(nil, `{"a":"%s"}`, strings.Repeat("x", size-around))
			events = append(events, e)
			left -= size
		}
		raw := slices.Concat([]byte(`{"events":`), webhook.BatchJSON(events), []byte("}"))
		require.Len(t, raw, webhook.MaxBatchBytes+over)
		_, err := webhook.ParseBatch(raw)
		valid := webhook.ValidateBatch(events)
		if over > 0 {
			require.ErrorContains(t, err, "at most 1048576 bytes")
			require.Equal(t, err, valid)
			require.Equal(t, len(events)-1, webhook.BatchLen(events))
			continue
		}
		require.NoError(t, err)
		require.NoError(t, valid)
		require.Equal(t, len(events), webhook.BatchLen(events))

		// A door completes them, which makes the batch larger than what may come in.
		for i := range events {
			events[i] = events[i].Complete(time.Unix(vectorTime, 0))
		}
		complete := webhook.BatchJSON(events)
		require.Greater(t, len(complete), webhook.MaxBatchBytes)
		_, faults, err := webhook.ParseAcceptedBatch(complete)
		require.NoError(t, err)
		require.Empty(t, faults)
	}
}

func TestABatchErrorIsBounded(t *testing.T) {
	bad := slices.Repeat([]string{`{"event":"nope","data":[],"id":""}`}, webhook.MaxBatchEvents)
	_, err := webhook.ParseBatch([]byte(batchOf(bad...)))
	var invalid *webhook.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Len(t, invalid.Fields, 20)
	require.Equal(t, "events[0].id", invalid.Fields[0].Field)

	events := slices.Repeat([]webhook.Event{{ID: "same", Type: webhook.PostCreated, Data: json.RawMessage(`{}`)}}, webhook.MaxBatchEvents)
	require.ErrorAs(t, webhook.ValidateBatch(events), &invalid)
	require.Len(t, invalid.Fields, 20)
	require.Equal(t, webhook.FieldError{Field: "events[1].id", Message: "is the same as that of events[0]"}, invalid.Fields[0])
}

func TestValidateBatch(t *testing.T) {
	ok := webhook.Event{Type: webhook.PostCreated, Data: json.RawMessage(`{}`)}
	for _, c := range []struct {
		name   string
		events []webhook.Event
		want   string
	}{
		{"none", nil, "invalid events: must have at least one event"},
		{"101", slices.Repeat([]webhook.Event{ok}, 101), "invalid events: must have at most 100 events"},
		{"several faults", []webhook.Event{ok, {Type: "nope", Data: json.RawMessage(`{}`)}, ok, {Type: webhook.Mention, Data: json.RawMessage(`[]`)}}, "events[3].data: must be a JSON object; events[3].botIds: is required"},
		{"an event too large", []webhook.Event{{Type: webhook.PostCreated, Data: json.RawMessage(`{"a":"` + strings.Repeat("x", webhook.MaxEventBytes) + `"}`)}}, "events[0].data: is too large: the event must have at most"},
		{"too large in all", slices.Repeat([]webhook.Event{{Type: webhook.PostCreated, Data: json.RawMessage(`{"a":"` + strings.Repeat("x", 200_000) + `"}`)}}, 6), "invalid events: must have at most 1048576 bytes"},
		{"a direct event", []webhook.Event{{Type: webhook.Test, Data: json.RawMessage(`{}`)}}, "events[0].event: cannot be emitted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := webhook.ValidateBatch(c.events)
			var invalid *webhook.InvalidError
			require.ErrorAs(t, err, &invalid)
			require.Contains(t, err.Error(), c.want)
		})
	}
	require.NoError(t, webhook.ValidateBatch(slices.Repeat([]webhook.Event{ok}, 100)), "ids may be missing")
}

func TestWhatADoorAcceptedConcernsItsEventOnly(t *testing.T) {
	accepted := func(id string) string {
		return `{"id":"` + id + `","event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":{}}`
	}
	raw := "[" + strings.Join([]string{
		accepted("e0"),
		"null",
		accepted("e2"),
		`{"id":"e3","event":"post.created","data":{"a":1,"a":2}}`,
		"{\"id\":\"e4\",\"event\":\"post.created\",\"data\":{\"a\":\"\xff\"}}",
		`{"id":"e5","event":"post.created","data":{},"urgent":true}`,
		`{"id":"e6","event":"nope","data":{}}`,
		accepted("e2"),
		`{"id":"e8","event":"post.created","data":{"a":"` + strings.Repeat("x", webhook.MaxEventBytes+300) + `"}}`,
	}, " , ") + "]\n"
	events, faults, err := webhook.ParseAcceptedBatch([]byte(raw))
	require.NoError(t, err)
	require.Len(t, events, 9)
	for place, want := range map[int]string{
		1: "must be a JSON object", 3: "duplicate name", 4: "not valid UTF-8", 5: "urgent", 6: "is not an event type", 8: "at most 262144 bytes",
	} {
		require.ErrorContains(t, faults[place], want, "%d", place)
		require.Zero(t, events[place])
	}
	require.Len(t, faults, 6)
	require.Equal(t, []string{"e0", "e2", "e2"}, []string{events[0].ID, events[2].ID, events[7].ID}, "one id twice is for the history to see")

	one := accepted("e1")
	for input, want := range map[string]string{
		"":                                "must be an array",
		"null":                            "must be an array",
		one:                               "must be an array",
		"[]":                              "at least one event",
		"[ ]":                             "at least one event",
		"[" + one:                         "unexpected end of input",
		"[" + one + ",]":                  "not valid JSON",
		"[" + one + "," + one[:9]:         "unexpected end of input",
		"[" + one + "]]":                  "unexpected data after",
		"[" + one + "] [" + one + "]":     "unexpected data after",
		"[" + one + " " + one + "]":       "not valid JSON",
		"[" + strings.Repeat("[", 20_000): "not valid JSON",
		"[" + strings.Repeat(one+",", 100) + one + "]":                 "at most 100 events",
		"[" + one + strings.Repeat(" ", 2*webhook.MaxBatchBytes) + "]": "at most 1048576 bytes",
	} {
		_, _, err := webhook.ParseAcceptedBatch([]byte(input))
		require.ErrorContains(t, err, want, "%.50s", input)
	}
}

func TestBatchPlace(t *testing.T) {
	for field, want := range map[string][]any{
		"events[3].data":       {3, "data", true},
		"events[0]":            {0, "", true},
		"events[99].botIds[1]": {99, "botIds[1]", true},
		"events":               {0, "", false},
		"events[":              {0, "", false},
		"events[3":             {0, "", false},
		"events[-1].id":        {0, "id", false},
		"events[x].id":         {0, "id", false},
		"events[99999999].id":  {65535, "id", false},
		"data":                 {0, "", false},
		"":                     {0, "", false},
	} {
		place, of, ok := webhook.BatchPlace(field)
		require.Equal(t, want[2], ok, field)
		if ok {
			require.Equal(t, want[:2], []any{place, of}, field)
		}
	}
}

func TestBatchLen(t *testing.T) {
	event := func(id string, bytes int) webhook.Event {
		return webhook.Event{ID: id, Type: webhook.PostCreated, Data: fmt.Appendf(nil, `{"a":"%s"}`, strings.Repeat("x", bytes))}
	}
	var many []webhook.Event
	for i := range 250 {
		many = append(many, event(strconv.Itoa(i), 0))
	}
	require.Zero(t, webhook.BatchLen(nil))
	require.Equal(t, 100, webhook.BatchLen(many))
	require.Equal(t, 50, webhook.BatchLen(many[200:]))
	require.Equal(t, 5, webhook.BatchLen(slices.Repeat([]webhook.Event{event("", 200_000)}, 20)), "without ids, none is repeated")
	require.Equal(t, 2, webhook.BatchLen([]webhook.Event{event("a", 1), event("b", 1), event("a", 1), event("c", 1)}))
	require.Equal(t, 1, webhook.BatchLen([]webhook.Event{event("a", 2<<20), event("b", 1)}), "there is no end without progress")
}

// TestBatchesHoldWhatTheyWereMadeOf: whatever valid events there are, BatchLen parts them into batches that every door
// takes, and none of them is lost, changed or out of order.
func TestBatchesHoldWhatTheyWereMadeOf(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	types := webhook.Subscribable()
	for range 10 {
		var events []webhook.Event
		for range 1 + random.IntN(300) {
			e := webhook.Event{
				Type: types[random.IntN(len(types))], BotIDs: []string{"a", "b"}[:1+random.IntN(2)],
				Data: fmt.Appendf(nil, `{"n":%d.%d,"s":"%s"}`, random.Int64(), random.IntN(1000), strings.Repeat("é", random.IntN(1+random.IntN(20_000)))),
			}
			if random.IntN(2) == 0 {
				e.ID = fmt.Sprint("e", random.IntN(200))
			}
			if random.IntN(2) == 0 {
				e = e.Complete(time.Unix(random.Int64N(1<<32), 0))
			}
			events = append(events, e)
		}
		for rest := events; len(rest) > 0; {
			n := webhook.BatchLen(rest)
			batch := rest[:n]
			require.NoError(t, webhook.ValidateBatch(batch))
			parsed, err := webhook.ParseBatch(slices.Concat([]byte(`{"events":`), webhook.BatchJSON(batch), []byte("}")))
			require.NoError(t, err)
			require.Equal(t, batch, parsed)
			accepted, faults, err := webhook.ParseAcceptedBatch(webhook.BatchJSON(batch))
			require.NoError(t, err)
			require.Empty(t, faults)
			require.Equal(t, batch, accepted)
			if n < len(rest) {
				require.Error(t, webhook.ValidateBatch(rest[:n+1]), "it holds as much as it can")
			}
			rest = rest[n:]
		}
	}
}

func TestBatchSummary(t *testing.T) {
	of := func(types ...webhook.EventType) (events []webhook.Event) {
		for _, eventType := range types {
			events = append(events, webhook.Event{Type: eventType, Data: json.RawMessage(`{"postId":"p1"}`)})
		}
		return events
	}
	require.Equal(t, "post.created · post p1", webhook.BatchSummary(of(webhook.PostCreated)), "one is named as ever")
	require.Equal(t, "2 events · 2 post.created", webhook.BatchSummary(of(webhook.PostCreated, webhook.PostCreated)))
	mixed := of(webhook.Mention, webhook.PostCreated, webhook.ThreadCreated, webhook.PostCreated)
	require.Equal(t, "4 events · 1 thread.created, 2 post.created, 1 mention", webhook.BatchSummary(mixed), "in the order of the catalog")
	require.Equal(t, []webhook.EventType{webhook.ThreadCreated, webhook.PostCreated, webhook.Mention}, webhook.TypesOf(mixed))
	require.Empty(t, webhook.TypesOf(nil))

	var all []webhook.Event
	for range 12 {
		all = append(all, of(webhook.Subscribable()...)...)
	}
	require.Equal(t, webhook.Subscribable(), webhook.TypesOf(all))
	require.LessOrEqual(t, len(webhook.BatchSummary(all)), 400, "as Temporal allows a summary")
}

// TestBatch_AUUIDIsOneIDInEitherCase; any other id is another in each case.
func TestBatch_AUUIDIsOneIDInEitherCase(t *testing.T) {
	t.Parallel()
	const lower, upper = "b89c0b2e-1c00-7a3b-9d21-6f0e5a52c1d7", "B89C0B2E-1C00-7A3B-9D21-6F0E5A52C1D7"
	post := func(id string) webhook.Event {
		return webhook.Event{ID: id, Type: webhook.PostCreated, Data: []byte(`{}`)}
	}
	twice, others := []webhook.Event{post(lower), post(upper)}, []webhook.Event{post("e-a"), post("E-A")}
	require.ErrorContains(t, webhook.ValidateBatch(twice), "events[1].id")
	require.Equal(t, 1, webhook.BatchLen(twice))
	require.NoError(t, webhook.ValidateBatch(others))
	require.Equal(t, 2, webhook.BatchLen(others))
	parsed, err := webhook.ParseEvent(post(upper).JSON())
	require.NoError(t, err)
	require.Equal(t, []string{lower, lower, "E-A"}, []string{parsed.ID, post(upper).Identify().ID, others[1].Identify().ID})
}
