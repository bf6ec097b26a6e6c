package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func bodyWith(t testing.TB, data string) []byte {
	t.Helper()
	e := Event{Type: ThreadCreated, Data: json.RawMessage(data)}
	require.NoError(t, e.Validate(), data)
	return e.Complete(time.Now()).Body()
}

func aFilter(t testing.TB, text string) Filter {
	t.Helper()
	f, err := ParseFilter(json.RawMessage(text))
	require.NoError(t, err, text)
	return f
}

func TestFilter_Match(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, filter, data string
		want               bool
	}{
		{"no filter", `{}`, `{}`, true},
		{"the value", `{"a":["x"]}`, `{"a":"x"}`, true},
		{"any of the values", `{"a":["y","x"]}`, `{"a":"x"}`, true},
		{"another value", `{"a":["x"]}`, `{"a":"y"}`, false},
		{"all fields", `{"a":["x"],"b":["y"]}`, `{"b":"y","a":"x"}`, true},
		{"one field of two", `{"a":["x"],"b":["y"]}`, `{"a":"x","b":"x"}`, false},
		{"a field is missing", `{"a":["x"],"b":["y"]}`, `{"a":"x"}`, false},
		{"null", `{"a":["null",""]}`, `{"a":null}`, false},
		{"a list with the value", `{"a":["x"]}`, `{"a":["x"]}`, false},
		{"an object", `{"a":["x"]}`, `{"a":{"a":"x"}}`, false},
		{"deeper", `{"a":["x"]}`, `{"b":{"a":"x"}}`, false},
		{"another case of the value", `{"a":["X"]}`, `{"a":"x"}`, false},
		{"another case of the name", `{"A":["x"]}`, `{"a":"x"}`, false},
		{"escaped in the data", `{"a":["é/"]}`, `{"\u0061":"\u00e9\/"}`, true},
		{"escaped in the filter", `{"a":["\u00e9"]}`, `{"a":"é"}`, true},
		{"not normalised", `{"a":["é"]}`, `{"a":"e\u0301"}`, false},
		{"empty", `{"a":[""]}`, `{"a":""}`, true},
		{"white space", `{"a":["x"]}`, `{ "a" : "x" }`, true},
		{"true", `{"a":[true]}`, `{"a":true}`, true},
		{"false", `{"a":[true]}`, `{"a":false}`, false},
		{"the text true", `{"a":[true]}`, `{"a":"true"}`, false},
		{"true for a text", `{"a":["true"]}`, `{"a":true}`, false},
		{"one for true", `{"a":[true]}`, `{"a":1}`, false},
		{"true for one", `{"a":[1]}`, `{"a":true}`, false},
		{"an integer", `{"a":[7]}`, `{"a":7}`, true},
		{"the text of an integer", `{"a":[7]}`, `{"a":"7"}`, false},
		{"an integer with a fraction of zero", `{"a":[7]}`, `{"a":7.0}`, true},
		{"an integer with an exponent", `{"a":[700]}`, `{"a":7e+2}`, true},
		{"a fraction", `{"a":[7]}`, `{"a":7.5}`, false},
		{"minus zero", `{"a":[0]}`, `{"a":-0.0e9}`, true},
		{"beyond 2^53", `{"a":[9007199254740993]}`, `{"a":9007199254740993}`, true},
		{"beyond 2^53, one less", `{"a":[9007199254740993]}`, `{"a":9007199254740992}`, false},
		{"the greatest", `{"a":[9223372036854775807]}`, `{"a":9223372036854775807.0}`, true},
		{"the least", `{"a":[-9223372036854775808]}`, `{"a":-9223372036854775808.0}`, true},
		{"beyond 64 bits", `{"a":[9223372036854775807]}`, `{"a":9223372036854775808}`, false},
		{"far beyond", `{"a":[0]}`, `{"a":1e999999999999999999999}`, false},
		{"next to nothing", `{"a":[0]}`, `{"a":1e-999999999999999999999}`, false},
		{"a long text", `{"a":["x"]}`, `{"a":"` + strings.Repeat("x", MaxFilterValueBytes+1) + `"}`, false},
		{"after a long text", `{"a":["x"]}`, `{"b":"` + strings.Repeat("x", 100_000) + `","a":"x"}`, true},
		{"a text as long as can be", `{"a":["` + strings.Repeat("é", MaxFilterValueBytes/2) + `"]}`, `{"a":"` + strings.Repeat(`\u00e9`, MaxFilterValueBytes/2) + `"}`, true},
	} {
		require.Equal(t, c.want, aFilter(t, c.filter).Match(FieldsOf(bodyWith(t, c.data))), c.name)
		stored, err := StoredFilter(aFilter(t, c.filter).JSON())
		require.NoError(t, err)
		require.Equal(t, c.want, stored.Match(FieldsOf(bodyWith(t, c.data))), "%s, stored", c.name)
	}
	_, err := ParseEvent([]byte(`{"event":"thread.created","data":{"a":"x","a":"y"}}`))
	require.ErrorContains(t, err, "duplicate name", "so that no reader takes another of them")
	require.Empty(t, FieldsOf([]byte(`no body`)))
}

// TestParseFilter_Faults: each names its field, and says what is allowed.
func TestParseFilter_Faults(t *testing.T) {
	t.Parallel()
	many := func(n int, entry string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = fmt.Sprintf(entry, i)
		}
		return strings.Join(all, ",")
	}
	for text, want := range map[string]string{
		`[]`:                                    "filter: must be an object of arrays",
		`"projectSlug"`:                         "filter: must be an object of arrays",
		`{"projectSlug":"x"}`:                   "filter.projectSlug: must be an array of values",
		`{"projectSlug":null}`:                  "filter.projectSlug: must be an array of values",
		`{"projectSlug":[]}`:                    "filter.projectSlug: must have 1 to 100 values",
		`{"projectSlug":["a",null,["b"],{}]}`:   "filter.projectSlug[1]: must be a string, a boolean or an integer; filter.projectSlug[2]: must be",
		`{"projectSlug":[1.5]}`:                 "filter.projectSlug[0]: must be an integer from -2^63 to 2^63-1",
		`{"projectSlug":[9223372036854775808]}`: "filter.projectSlug[0]: must be an integer from -2^63 to 2^63-1",
		`{"projectSlug":["a",7]}`:               "filter.projectSlug[1]: must be a string",
		`{"projectSlug":[true]}`:                "filter.projectSlug[0]: must be a string",
		`{"projectSlug":["` + strings.Repeat("x", 257) + `"]}`: "filter.projectSlug[0]: must have at most 256 bytes",
		`{"projectSlug":["a\u0000"]}`:                          "filter.projectSlug[0]: must not contain NUL",
		`{"projectSlug":[` + many(101, `"%d"`) + `]}`:          "filter.projectSlug: must have 1 to 100 values",
		`{` + many(11, `"f%d":["x"]`) + `}`:                    "filter: must have at most 10 fields",
		`{"postId":["x"],"projectslug":["x"]}`:                 "filter.postId: is not a field of these event types that a filter can have; those are: threadId, projectSlug, title, authorId; filter.projectslug: is not",
		`{"projectSlug":[` + many(90, `"%0100d"`) + `]}`:       "filter: must have at most 8192 bytes of JSON",
	} {
		f, err := ParseFilter(json.RawMessage(text))
		if err == nil {
			_, err = f.Check([]EventType{ThreadCreated})
		}
		require.ErrorContains(t, err, want, "%.100s", text)
		var invalid *InvalidError
		require.ErrorAs(t, err, &invalid)
	}
	for _, text := range []string{`null`, `{}`} {
		f, err := aFilter(t, text).Check([]EventType{Mention})
		require.NoError(t, err)
		require.Nil(t, f.JSON())
	}
	f, err := aFilter(t, `{"projectSlug":["b","a","b"],"authorId":["x"]}`).Check([]EventType{Mention, WikiEdited})
	require.NoError(t, err, "one of the types has each of them")
	require.Equal(t, `{"authorId":["x"],"projectSlug":["b","a"]}`, string(f.JSON()))
}

// TestFilter_OfTypedFields: which values a field can have, the catalog's example says.
func TestFilter_OfTypedFields(t *testing.T) {
	t.Parallel()
	fields := FilterFieldsOf([]EventSpec{
		{Type: "a", Fields: []Field{{"n", "A number.", `10`}, {"b", "A flag.", `true`}, {"both", "A text.", `"x"`}, {"list", "A list.", `[1]`}, {"object", "An object.", `{}`}}},
		{Type: "b", Fields: []Field{{"both", "A number.", `1`}, {"n", "A number.", `1`}}},
	})
	require.Len(t, fields, 3, "lists and objects are none")
	n, b, both := fields[0], fields[1], fields[2]
	require.Equal(t, []EventType{"a", "b"}, n.Types)
	for _, c := range []struct {
		field       FilterField
		value, want string
	}{
		{n, `7`, ""},
		{n, `"7"`, "must be an integer"},
		{n, `true`, "must be an integer"},
		{b, `false`, ""},
		{b, `"false"`, "must be true or false"},
		{b, `0`, "must be true or false"},
		{both, `"7"`, ""},
		{both, `7`, ""},
		{both, `true`, "must be a string or an integer"},
	} {
		v, err := filterValue([]byte(c.value))
		require.NoError(t, err)
		var faults InvalidError
		c.field.check([]FilterValue{v}, &faults)
		if err := faults.orNil(); c.want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, c.want)
		}
	}
	require.Len(t, both.Values("7"), 2, "a query may mean either")
	require.Equal(t, []FilterValue{{kind: integerKind, number: 7}}, n.Values("7"))
	require.Empty(t, n.Values("x"))
	require.Equal(t, []FilterValue{{kind: booleanKind, number: 1}}, b.Values("true"))
	require.Empty(t, b.Values("1"))
}

func TestTextFilter(t *testing.T) {
	t.Parallel()
	f, err := TextFilter(map[string][]string{"projectSlug": {"a", "7"}}, []EventType{ThreadCreated})
	require.NoError(t, err)
	require.Equal(t, `{"projectSlug":["a","7"]}`, string(f.JSON()))
	f, err = TextFilter(map[string][]string{"other": {"a"}}, []EventType{ThreadCreated})
	require.NoError(t, err)
	_, err = f.Check([]EventType{ThreadCreated})
	require.ErrorContains(t, err, "filter.other: is not a field")
}

func TestFilter_Overlaps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{`{}`, `{}`, true},
		{`{}`, `{"a":["x"]}`, true},
		{`{"a":["x"]}`, `{"b":["x"]}`, true},
		{`{"a":["x","y"]}`, `{"a":["y","z"]}`, true},
		{`{"a":["x"]}`, `{"a":["y"]}`, false},
		{`{"a":["x"],"b":["x"]}`, `{"a":["x"],"b":["y"]}`, false},
		{`{"a":[true]}`, `{"a":["true"]}`, false},
	} {
		require.Equal(t, c.want, aFilter(t, c.a).Overlaps(aFilter(t, c.b)), "%s %s", c.a, c.b)
		require.Equal(t, c.want, aFilter(t, c.b).Overlaps(aFilter(t, c.a)), "%s %s", c.b, c.a)
	}
}

// FuzzFilter holds Match against a plain reading of the same JSON by another decoder.
func FuzzFilter(f *testing.F) {
	for _, seed := range [][2]string{
		{`{"a":["x",7,true]}`, `{"a":"x"}`},
		{`{"a":[7]}`, `{"a":70e-1}`},
		{`{"a":[9007199254740993],"b":[false]}`, `{"a":9007199254740993,"b":false}`},
		{`{"a":[-0]}`, `{"a":0.00}`},
		{`{"":["\ud834\udd1e"]}`, `{"":"𝄞"}`},
		{`{"a":["x"]}`, `{"a":["x"],"b":{"a":"x"}}`},
		{`{"a":[1]}`, `{"a":1e400}`},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, filter, data string) {
		parsed, err := ParseFilter(json.RawMessage(filter))
		e := Event{Type: ThreadCreated, Data: json.RawMessage(data)}
		if !json.Valid([]byte(filter)) || err != nil || e.Validate() != nil {
			var invalid *InvalidError
			if err != nil && json.Valid([]byte(filter)) && !errors.As(err, &invalid) {
				t.Fatalf("%q: %v is no fault of a field", filter, err)
			}
			return
		}
		body := e.Complete(time.Now()).Body()
		got := parsed.Match(FieldsOf(body))
		if want, known := plainMatch(t, filter, data); known && got != want {
			t.Fatalf("%s of %s: %t, want %t", filter, data, got, want)
		}
		stored, err := StoredFilter(parsed.JSON())
		if err != nil || stored.Match(FieldsOf(body)) != got {
			t.Fatalf("%s is stored as %s: %v", filter, parsed.JSON(), err)
		}
	})
}

// plainMatch is Match by encoding/json and math/big. It does not know where a number has too large an exponent for these.
func plainMatch(t *testing.T, filter, data string) (match, known bool) {
	if longExponent.MatchString(filter + data) {
		return false, false
	}
	var fields map[string][]any
	var values map[string]any
	for text, into := range map[string]any{filter: &fields, data: &values} {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		require.NoError(t, decoder.Decode(into))
	}
	for name, list := range fields {
		if !slices.ContainsFunc(list, func(v any) bool { return plainEqual(v, values[name]) }) {
			return false, true
		}
	}
	return true, true
}

var longExponent = regexp.MustCompile(`[eE][+-]?\d{4}`)

func plainEqual(a, b any) bool {
	if s, is := b.(string); is && len(s) > MaxFilterValueBytes && len(s) == len(fmt.Sprint(a)) {
		return false // it is too long for a filter, which Check says
	}
	n, isNumber := a.(json.Number)
	m, isOther := b.(json.Number)
	if !isNumber || !isOther {
		return a == b
	}
	x, okX := new(big.Rat).SetString(string(n))
	y, okY := new(big.Rat).SetString(string(m))
	return okX && okY && x.Cmp(y) == 0 && y.IsInt() && y.Num().IsInt64()
}
