package webhook_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestParseEvent(t *testing.T) {
	e, err := webhook.ParseEvent([]byte(` {"botIds":["a","b","a"], "data": {"x" : [ 1 ] } ,"timestamp":"2025-03-20T11:30:00+01:00","event":"mention","id":"evt-1"}` + "\r\n\t "))
	require.NoError(t, err)
	require.Equal(t, webhook.Event{
		ID: "evt-1", Type: webhook.Mention, Timestamp: "2025-03-20T11:30:00+01:00",
		Data: json.RawMessage(`{"x" : [ 1 ] }`), BotIDs: []string{"a", "b"},
	}, e)
	require.Equal(t, `{"event":"mention","timestamp":"2025-03-20T10:30:00.000Z","data":{"x":[1]}}`, string(e.Body()))

	least, err := webhook.ParseEvent([]byte(`{"event":"post.created","data":{}}`))
	require.NoError(t, err)
	require.Equal(t, webhook.Event{Type: webhook.PostCreated, Data: json.RawMessage(`{}`)}, least)

	escaped, err := webhook.ParseEvent([]byte(`{"\u0065vent":"post\u002ecreated","data":{},"id":"\u0061"}`))
	require.NoError(t, err, "escapes are just another way to write it")
	require.Equal(t, webhook.PostCreated, escaped.Type)
	require.Equal(t, "a", escaped.ID)
}

// TestAUUIDIsTakenInEitherCase (RFC 9562 §4), and stored in lower case. Other ids stay as they are.
func TestAUUIDIsTakenInEitherCase(t *testing.T) {
	const lower, upper = "0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71", "0195B2F0-5A3E-7C1D-8F00-3B6D2A9C4E71"
	e, err := webhook.ParseEvent([]byte(`{"id":"` + upper + `","event":"mention","data":{},"botIds":["` + upper + `","Lemma","` + lower + `","lemma"]}`))
	require.NoError(t, err)
	require.Equal(t, []string{lower, "Lemma", "lemma"}, e.BotIDs)
	require.Equal(t, lower, e.ID)
	made := webhook.Event{ID: "E-1", Type: webhook.Mention, Data: json.RawMessage(`{}`), BotIDs: []string{upper}}
	require.Equal(t, []string{lower}, made.Complete(time.Now()).BotIDs)
	require.Equal(t, "E-1", made.Complete(time.Now()).ID)
}

// TestNullIsAsIfLeftOut, as those clients write what is optional that have no way to leave it out.
func TestNullIsAsIfLeftOut(t *testing.T) {
	const raw = `{"id":null,"event":"post.created","timestamp":null,"data":{"kept":null},"botIds":null}`
	want := webhook.Event{Type: webhook.PostCreated, Data: json.RawMessage(`{"kept":null}`)}
	e, err := webhook.ParseEvent([]byte(raw))
	require.NoError(t, err)
	require.Equal(t, want, e)
	batch, err := webhook.ParseBatch([]byte(`{"events":[` + raw + `]}`))
	require.NoError(t, err)
	require.Equal(t, []webhook.Event{want}, batch)
	accepted, faults, err := webhook.ParseAcceptedBatch([]byte(`[` + raw + `]`))
	require.NoError(t, err)
	require.Empty(t, faults)
	require.Equal(t, []webhook.Event{want}, accepted)
}

func TestParseEventKeepsNoReferenceToTheInput(t *testing.T) {
	raw := []byte(`{"event":"post.created","data":{"a":"b"}}`)
	e, err := webhook.ParseEvent(raw)
	require.NoError(t, err)
	for i := range raw {
		raw[i] = 'x'
	}
	require.Equal(t, `{"a":"b"}`, string(e.Data))
}

// Everything within data's tokens is to arrive as it was emitted.
func TestBodyIsByteExact(t *testing.T) {
	text := strings.Repeat("All work and no play. ", 200<<10/22)
	for name, data := range map[string]string{
		"digits":          `{"n":12345678901234567890.12345678901234567890}`,
		"numbers":         `{"a":-0,"b":1e400,"c":1.0,"d":1E+2,"e":0.10,"f":9007199254740993,"g":-0.0e-0}`,
		"NUL":             `{"s":"\u0000"}`,
		"emoji":           `{"s":"😀","t":"\ud83d\ude00","😀":1}`,
		"HTML":            `{"s":"<a href='x'>&amp;</a>","t":"\u003c"}`,
		"line separators": "{\"s\":\"\u2028\u2029\",\"t\":\"\\u2028\"}",
		"escapes":         `{"s":"\/\b\f\n\r\t\"\\","t":"\u00e9é"}`,
		"spaces in text":  `{"s":"  a  b  ","a b":" "}`,
		"order of names":  `{"z":1,"a":2,"Z":3,"":4}`,
		"text of 200 KiB": `{"s":"` + text + `"}`,
		"noncharacters":   "{\"s\":\"\ufffe\uffff\ufeff\ufffd\"}",
		"empty":           `{}`,
		"long numbers":    `{"a":-` + strings.Repeat("9", 999) + `,"b":0.` + strings.Repeat("1", 998) + `,"c":[` + strings.Repeat("1,", 600) + `1],"1` + strings.Repeat("1", 1000) + `":"` + strings.Repeat(`\"1`, 1000) + `"}`,
		"literals":        `{"a":null,"b":true,"c":false,"d":[],"e":{},"f":[[],{}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			require.True(t, json.Valid([]byte(data)))
			e, err := webhook.ParseEvent([]byte(`{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":` + data + `}`))
			require.NoError(t, err)
			want := `{"event":"post.created","timestamp":"2025-03-20T10:30:00.000Z","data":` + data + `}`
			require.Equal(t, want, string(e.Body()))
			require.Equal(t, want, string(e.Body()), "every time")
			require.Equal(t, want, string(e.JSON()))

			// White space between tokens is all that goes.
			var indented bytes.Buffer
			require.NoError(t, json.Indent(&indented, []byte(data), "  ", "\t"))
			e.Data = indented.Bytes()
			require.Equal(t, want, string(e.Body()))
		})
	}
}

func TestParseEventRefusesMalformedInput(t *testing.T) {
	const ok = `{"event":"post.created","data":{}}`
	deep := func(n int) string {
		return `{"event":"post.created","data":{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}}`
	}
	for _, c := range []struct{ name, input, field, message string }{
		{"empty", "", "", "empty"},
		{"blank", " \n", "", "empty"},
		{"byte order mark", "\ufeff" + ok, "", ""},
		{"array", "[" + ok + "]", "", "must be a JSON object"},
		{"string", `"x"`, "", "must be a JSON object"},
		{"null", "null", "", "must be a JSON object"},
		{"number", "1", "", "must be a JSON object"},
		{"bad literal", "nul", "", ""},
		{"NaN", "NaN", "", ""},
		{"not JSON", "event=post.created", "", ""},
		{"a second value", ok + ok, "", "unexpected data after"},
		{"a trailing word", ok + " x", "", "unexpected data after"},
		{"a trailing brace", ok + "}", "", "unexpected data after"},
		{"a trailing NUL", ok + "\x00", "", "unexpected data after"},
		{"cut off", ok[:len(ok)-1], "", "unexpected end of input"},
		{"cut off in a string", `{"event":"post.cre`, "", "unexpected end of input"},
		{"trailing comma", `{"event":"post.created","data":{},}`, "", ""},
		{"comment", `{"event":"post.created",/**/"data":{}}`, "", ""},
		{"single quotes", `{'event':'post.created','data':{}}`, "", ""},
		{"unquoted name", `{event:"post.created","data":{}}`, "", ""},
		{"NaN within", `{"event":"post.created","data":{"a":NaN}}`, "", ""},
		{"leading zero", `{"event":"post.created","data":{"a":01}}`, "", ""},
		{"plus sign", `{"event":"post.created","data":{"a":+1}}`, "", ""},
		{"bare fraction", `{"event":"post.created","data":{"a":.5}}`, "", ""},
		{"hexadecimal", `{"event":"post.created","data":{"a":0x1}}`, "", ""},
		{"control character", "{\"event\":\"post.created\",\"data\":{\"a\":\"\n\"}}", "", ""},
		{"bad escape", `{"event":"post.created","data":{"a":"\x"}}`, "", ""},
		{"unknown field", `{"event":"post.created","data":{},"urgent":true}`, "urgent", "unknown field"},
		{"unknown field of an absurd name", `{"event":"post.created","data":{},"` + strings.Repeat("é", 5000) + `":1}`, strings.Repeat("é", 32) + "…", "unknown field"},
		{"empty name", `{"event":"post.created","data":{},"":1}`, "", "unknown field"},
		{"other case", `{"event":"post.created","Data":{}}`, "Data", `use "data"`},
		{"other case beside the right one", `{"event":"post.created","data":{},"EVENT":"x"}`, "EVENT", `use "event"`},
		{"field twice", `{"event":"post.created","data":{},"event":"mention"}`, "event", "duplicate name"},
		{"field twice, escaped", `{"event":"post.created","data":{},"\u0065vent":"mention"}`, "event", "duplicate name"},
		{"name twice within", `{"event":"post.created","data":{"a":[{"b":1,"b":1}]}}`, "data/a/0/b", "duplicate name"},
		{"unknown field twice", `{"x":1,"x":1}`, "x", "duplicate name"},
		{"invalid UTF-8", "{\"event\":\"post.created\",\"data\":{\"a\":\"\xff\"}}", "", "UTF-8"},
		{"invalid UTF-8 in a name", "{\"event\":\"post.created\",\"data\":{\"\xc0\x80\":1}}", "", "UTF-8"},
		{"surrogate in UTF-8", "{\"event\":\"post.created\",\"data\":{\"a\":\"\xed\xa0\x80\"}}", "", "UTF-8"},
		{"half a surrogate pair", `{"event":"post.created","data":{"a":"\ud83d"}}`, "", "surrogate"},
		{"the other half", `{"event":"post.created","data":{"a":"\ude00"}}`, "", "surrogate"},
		{"halves the wrong way round", `{"event":"post.created","data":{"a":"\ude00\ud83d"}}`, "", "surrogate"},
		{"UTF-16", "{\x00}\x00", "", ""},
		{"97 deep within is too deep", deep(97), "", "nested deeper than 98"},
		{"10,000 deep", strings.Repeat(`{"a":`, 10_000), "", "nested deeper than 98"},
		{"100,000 deep in arrays", strings.Repeat("[", 100_000), "", "nested deeper than 98"},
		{"fault after an invalid field", `{"event":7,"data":[],"id":`, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := webhook.ParseEvent([]byte(c.input))
			var syntax *webhook.SyntaxError
			require.ErrorAs(t, err, &syntax)
			require.Equal(t, c.field, syntax.Field)
			require.Contains(t, err.Error(), c.message)
			require.Less(t, len(err.Error()), 250, "bounded")
			var invalid *webhook.InvalidError
			require.False(t, errors.As(err, &invalid))
		})
	}
	deepest, err := webhook.ParseEvent([]byte(deep(96)))
	require.NoError(t, err, "98 deep with the two objects around it")
	require.NoError(t, deepest.Validate())
	tooDeep := webhook.Event{Type: webhook.PostCreated, Data: json.RawMessage(`{"a":` + strings.Repeat("[", 97) + strings.Repeat("]", 97) + `}`)}
	require.ErrorContains(t, tooDeep.Validate(), "data: must not be nested deeper than 97", "what Go made and what was read have one limit")
	_, err = webhook.ParseEvent([]byte(`{"event":"post.created","data":{"a":"` + strings.Repeat(`[{\"`, 1000) + `"}}`))
	require.NoError(t, err, "brackets in text are not depth")
}

func TestParseEventNamesEveryFieldAtFault(t *testing.T) {
	long := strings.Repeat("x", 129)
	for _, c := range []struct {
		name, input string
		fields      []string
	}{
		{"nothing", `{}`, []string{"event", "data"}},
		{"no event", `{"data":{}}`, []string{"event"}},
		{"no data", `{"event":"post.created"}`, []string{"data"}},
		{"unknown event", `{"event":"post.deleted","data":{}}`, []string{"event"}},
		{"event in capitals", `{"event":"Post.Created","data":{}}`, []string{"event"}},
		{"event with a space", `{"event":"post.created ","data":{}}`, []string{"event"}},
		{"empty event", `{"event":"","data":{}}`, []string{"event"}},
		{"test event", `{"event":"test","data":{}}`, []string{"event"}},
		{"event of another type", `{"event":["post.created"],"data":{}}`, []string{"event"}},
		{"event null", `{"event":null,"data":{}}`, []string{"event"}},
		{"data null", `{"event":"post.created","data":null}`, []string{"data"}},
		{"data array", `{"event":"post.created","data":[]}`, []string{"data"}},
		{"data text", `{"event":"post.created","data":"{}"}`, []string{"data"}},
		{"data number", `{"event":"post.created","data":1e400}`, []string{"data"}},
		{"data with a long number", `{"event":"post.created","data":{"n":[-1` + strings.Repeat("0", 999) + `]}}`, []string{"data"}},
		{"data boolean", `{"event":"post.created","data":true}`, []string{"data"}},
		{"id number", `{"event":"post.created","data":{},"id":1}`, []string{"id"}},
		{"id empty", `{"event":"post.created","data":{},"id":""}`, []string{"id"}},
		{"id too long", `{"event":"post.created","data":{},"id":"` + long + `"}`, []string{"id"}},
		{"id with a dot", `{"event":"post.created","data":{},"id":"a.b"}`, []string{"id"}},
		{"id with a line break", `{"event":"post.created","data":{},"id":"a\r\nX-Injected: 1"}`, []string{"id"}},
		{"id with NUL", `{"event":"post.created","data":{},"id":"a\u0000"}`, []string{"id"}},
		{"timestamp number", `{"event":"post.created","data":{},"timestamp":1742466600}`, []string{"timestamp"}},
		{"timestamp empty", `{"event":"post.created","data":{},"timestamp":""}`, []string{"timestamp"}},
		{"timestamp without offset", `{"event":"post.created","data":{},"timestamp":"2025-03-20T10:30:00"}`, []string{"timestamp"}},
		{"botIds text", `{"event":"post.created","data":{},"botIds":"a"}`, []string{"botIds"}},
		{"botIds empty, which would come to mean everyone", `{"event":"post.created","data":{},"botIds":[]}`, []string{"botIds"}},
		{"botIds elements", `{"event":"post.created","data":{},"botIds":["a",1,"b c",null,"",["d"],"e"]}`, []string{"botIds[1]", "botIds[3]", "botIds[5]", "botIds[2]", "botIds[4]"}},
		{"targeted without botIds", `{"event":"mention","data":{}}`, []string{"botIds"}},
		{"targeted with botIds null", `{"event":"review.requested","data":{},"botIds":null}`, []string{"botIds"}},
		{"targeted with no botIds", `{"event":"review.submitted","data":{},"botIds":[]}`, []string{"botIds"}},
		{"1,001 botIds", `{"event":"mention","data":{},"botIds":["a"` + strings.Repeat(`,"a"`, 1000) + `]}`, []string{"botIds"}},
		{"everything", `{"id":".","event":"x","timestamp":"x","data":0,"botIds":[]}`, []string{"id", "event", "timestamp", "data", "botIds"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := webhook.ParseEvent([]byte(c.input))
			require.ElementsMatch(t, c.fields, fieldsOf(t, err))
			require.Equal(t, webhook.Event{}, e)
			require.NotContains(t, err.Error(), "X-Injected")
		})
	}

	_, err := webhook.ParseEvent([]byte(`{"event":"post.deleted","data":{}}`))
	for _, valid := range webhook.Subscribable() {
		require.ErrorContains(t, err, string(valid))
	}
	_, err = webhook.ParseEvent([]byte(`{"event":"mention","data":{},"botIds":["!"` + strings.Repeat(`,"!"`, 999) + `]}`))
	require.Len(t, fieldsOf(t, err), 20, "bounded")
}

func TestParseEventLimits(t *testing.T) {
	most := make([]string, 1000)
	for i := range most {
		most[i] = strconv.Itoa(i)
	}
	ids, err := json.Marshal(most)
	require.NoError(t, err)
	e, err := webhook.ParseEvent([]byte(`{"event":"mention","data":{},"botIds":` + string(ids) + `}`))
	require.NoError(t, err)
	require.Equal(t, most, e.BotIDs)

	_, err = webhook.ParseEvent([]byte(`{"event":"post.created","data":{},"id":"` + strings.Repeat("x", 128) + `"}`))
	require.NoError(t, err)

	sized := func(n int) []byte {
		const frame = `{"event":"post.created","data":{"s":""}}`
		return []byte(strings.Replace(frame, `""`, `"`+strings.Repeat("x", n-len(frame))+`"`, 1))
	}
	_, err = webhook.ParseEvent(sized(webhook.MaxEventBytes))
	require.NoError(t, err)
	_, err = webhook.ParseEvent(sized(webhook.MaxEventBytes + 1))
	require.Equal(t, []string{"data"}, fieldsOf(t, err))

	// What was accepted at the limit is not refused for what acceptance added to it.
	for _, raw := range [][]byte{sized(webhook.MaxEventBytes), {}} {
		if len(raw) == 0 { // the shortest id and timestamp that an emitter can give grow the most
			raw = sized(webhook.MaxEventBytes - len(`,"timestamp":"2025-03-20T10:30:00Z"`))
			raw = append(raw[:len(raw)-1], `,"timestamp":"2025-03-20T10:30:00Z"}`...)
		}
		e, err := webhook.ParseEvent(raw)
		require.NoError(t, err)
		require.NoError(t, e.Validate())
		completed := e.Complete(time.Now()).JSON()
		require.Greater(t, len(completed), webhook.MaxEventBytes)
		again, err := webhook.ParseAccepted(completed)
		require.NoError(t, err)
		require.Equal(t, e.Data, again.Data)
	}
	_, err = webhook.ParseAccepted(sized(webhook.MaxEventBytes + 10_000))
	require.Equal(t, []string{"data"}, fieldsOf(t, err))
}

// Events made in Go are held to the same rules.
func TestValidate(t *testing.T) {
	valid := webhook.Event{ID: "e", Type: webhook.Mention, Timestamp: "2025-03-20T10:30:00Z", Data: json.RawMessage(`{}`), BotIDs: []string{"a", "a"}}
	require.NoError(t, valid.Validate(), "repeats are no fault")
	for name, c := range map[string]struct {
		change func(*webhook.Event)
		field  string
	}{
		"id":               {func(e *webhook.Event) { e.ID = "a b" }, "id"},
		"no type":          {func(e *webhook.Event) { e.Type = "" }, "event"},
		"test":             {func(e *webhook.Event) { e.Type = webhook.Test }, "event"},
		"timestamp":        {func(e *webhook.Event) { e.Timestamp = "now" }, "timestamp"},
		"no data":          {func(e *webhook.Event) { e.Data = nil }, "data"},
		"array":            {func(e *webhook.Event) { e.Data = json.RawMessage(`[]`) }, "data"},
		"two values":       {func(e *webhook.Event) { e.Data = json.RawMessage(`{}{}`) }, "data"},
		"malformed":        {func(e *webhook.Event) { e.Data = json.RawMessage(`{`) }, "data"},
		"invalid UTF-8":    {func(e *webhook.Event) { e.Data = json.RawMessage("{\"a\":\"\xff\"}") }, "data"},
		"name twice":       {func(e *webhook.Event) { e.Data = json.RawMessage(`{"a":1,"a":1}`) }, "data"},
		"half a surrogate": {func(e *webhook.Event) { e.Data = json.RawMessage(`{"a":"\ud800"}`) }, "data"},
		"deep": {func(e *webhook.Event) {
			e.Data = json.RawMessage(`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`)
		}, "data"},
		"large": {func(e *webhook.Event) { e.Data = make([]byte, webhook.MaxEventBytes+1) }, "data"},
		"large by its audience": {func(e *webhook.Event) {
			e.Data = json.RawMessage(`{"a":"` + strings.Repeat("x", webhook.MaxEventBytes-30_000) + `"}`)
			for range 400 {
				e.BotIDs = append(e.BotIDs, strings.Repeat("b", 100))
			}
		}, "data"},
		"no audience":       {func(e *webhook.Event) { e.BotIDs = nil }, "botIds"},
		"empty audience":    {func(e *webhook.Event) { e.BotIDs = []string{} }, "botIds"},
		"audience of 1,001": {func(e *webhook.Event) { e.BotIDs = make([]string, 1001) }, "botIds"},
		"bot id":            {func(e *webhook.Event) { e.BotIDs = []string{"a", "b/c"} }, "botIds[1]"},
	} {
		t.Run(name, func(t *testing.T) {
			e := valid
			c.change(&e)
			require.Contains(t, fieldsOf(t, e.Validate()), c.field)
		})
	}
}

func TestComplete(t *testing.T) {
	at := time.Date(2025, 3, 20, 11, 30, 0, 123_456_789, time.FixedZone("CET", 3600))
	e := webhook.Event{Type: webhook.PostCreated, Data: json.RawMessage(`{}`), BotIDs: []string{"b", "a", "b"}}
	complete := e.Complete(at)
	require.Equal(t, "2025-03-20T10:30:00.123Z", complete.Timestamp)
	_, err := uuid.Parse(complete.ID)
	require.NoError(t, err)
	require.Equal(t, []string{"b", "a"}, complete.BotIDs)
	require.Equal(t, []string{"b", "a", "b"}, e.BotIDs, "the original is left alone")
	require.Equal(t, complete, complete.Complete(at.Add(time.Hour)), "once")
	require.NoError(t, complete.Validate())

	e.ID, e.Timestamp = "mine", "2020-01-01T00:00:00+02:00"
	require.Equal(t, "mine", e.Complete(at).ID)
	require.Equal(t, "2019-12-31T22:00:00.000Z", e.Complete(at).Timestamp)
}

func TestBodyWithoutATimestampIsDatedNow(t *testing.T) {
	before := time.Now().Truncate(time.Millisecond)
	var body struct{ Timestamp string }
	require.NoError(t, json.Unmarshal(webhook.Event{Type: webhook.PostCreated, Data: json.RawMessage(`{}`)}.Body(), &body))
	at, err := webhook.ParseTime(body.Timestamp)
	require.NoError(t, err)
	require.False(t, at.Before(before))
	require.False(t, at.After(time.Now()))
}

// An invalid event's body is nothing anybody wants, but it is JSON.
func TestBodyOfAnInvalidEvent(t *testing.T) {
	require.True(t, json.Valid(webhook.Event{Data: json.RawMessage(`{"a`)}.Body()))
	require.True(t, json.Valid(webhook.Event{}.Body()))
	require.True(t, json.Valid(webhook.Event{}.JSON()))
}

func TestJSONIsReadBack(t *testing.T) {
	for _, e := range []webhook.Event{
		{Type: webhook.PostCreated, Data: json.RawMessage(`{ "a" : "<>&" }`)},
		{ID: "e", Type: webhook.Mention, Timestamp: "2025-03-20T10:30:00.000Z", Data: json.RawMessage(`{}`), BotIDs: []string{"a", "b"}},
	} {
		again, err := webhook.ParseEvent(e.JSON())
		require.NoError(t, err)
		require.Equal(t, e, again)
	}
	nobody := webhook.Event{Type: webhook.PostCreated, Data: json.RawMessage(`{}`), BotIDs: []string{}}
	_, err := webhook.ParseEvent(nobody.JSON())
	require.Error(t, err, "an empty audience must not become everyone")
}

func TestTestEvent(t *testing.T) {
	hook := uuid.MustParse("0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71")
	e := webhook.TestEvent(hook, `bot-"1"`, time.Date(2025, 3, 20, 10, 30, 0, 0, time.UTC))
	require.Equal(t, `{"event":"test","timestamp":"2025-03-20T10:30:00.000Z","data":{"webhookId":"0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71","botId":"bot-\"1\"","message":"This is a test event from Mathub"}}`, string(e.Body()))
	require.True(t, webhook.ValidID(e.ID))
	require.Equal(t, []string{"event"}, fieldsOf(t, e.Validate()))

	spec, _ := webhook.Spec(webhook.Test)
	var documented, sent map[string]any
	require.NoError(t, json.Unmarshal(spec.ExampleData(), &documented))
	require.NoError(t, json.Unmarshal(e.Data, &sent))
	for name := range sent {
		require.Contains(t, documented, name)
	}
	require.Len(t, documented, len(sent))
	require.Equal(t, documented["message"], sent["message"])
}
