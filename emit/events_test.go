package emit_test

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/emit"
	"github.com/mathub/webhooks/webhook"
)

// typed is every struct of the package.
var typed = []emit.Data{
	emit.ThreadCreated{},
	emit.PostCreated{},
	emit.EffortCreated{},
	emit.EffortStatusChanged{},
	emit.WikiEdited{},
	emit.Mention{},
	emit.ReviewRequested{},
	emit.ReviewSubmitted{},
}

func TestThereIsAStructForEachTypeOfTheCatalog(t *testing.T) {
	var types []webhook.EventType
	for _, data := range typed {
		types = append(types, data.EventType())
		spec, ok := webhook.Spec(data.EventType())
		require.True(t, ok)
		var fields, documented []string
		for _, field := range reflect.VisibleFields(reflect.TypeOf(data)) {
			if name := field.Tag.Get("json"); name != "-" {
				require.Equal(t, reflect.String, field.Type.Kind())
				fields = append(fields, name)
			}
		}
		for _, field := range spec.Fields {
			documented = append(documented, field.Name)
		}
		require.Equal(t, documented, fields, data.EventType())

		// The catalog's example can be said in Go, to the byte.
		example := reflect.New(reflect.TypeOf(data))
		require.NoError(t, json.Unmarshal(spec.ExampleData(), example.Interface()))
		event, err := emit.New(example.Elem().Interface().(emit.Data))
		require.NoError(t, err)
		require.Equal(t, string(spec.ExampleData()), string(event.Data))
		event.BotIDs = []string{"bot-1"}
		require.NoError(t, event.Validate())
	}
	require.Equal(t, webhook.Subscribable(), types)
}

func TestNewMakesAnEventThatCanBeEmittedAgain(t *testing.T) {
	data := emit.PostCreated{PostID: "p1", Body: "a < b && \"c\"\n", Extra: emit.Extra{"tags": []string{"sieve"}, "a": 1}}
	event, err := emit.New(data)
	require.NoError(t, err)
	require.Equal(t, webhook.PostCreated, event.Type)
	require.JSONEq(t, `{"postId":"p1","threadId":"","body":"a < b && \"c\"\n","authorId":"","a":1,"tags":["sieve"]}`, string(event.Data))
	require.Contains(t, string(event.Data), `a < b && `, "as it was written")
	require.NoError(t, event.Validate())
	require.Equal(t, event, event.Complete(time.Unix(0, 0)), "id and time are set: each emission is the same event")

	other, err := emit.New(data)
	require.NoError(t, err)
	require.NotEqual(t, event.ID, other.ID)

	for name, extra := range map[string]emit.Extra{"documented": {"postId": "p2"}, "no JSON": {"x": math.NaN()}} {
		_, err := emit.New(emit.PostCreated{PostID: "p1", Extra: extra})
		require.ErrorContains(t, err, "data of post.created", name)
	}
}

func TestIDsAreTheSameForTheSameEventOnly(t *testing.T) {
	seen := map[string][]string{}
	for _, parts := range [][]string{
		{},
		{""},
		{"", ""},
		{"a"},
		{"a", "bc"},
		{"ab", "c"},
		{"abc"},
		{"a", "b", "c"},
		{`a","bc`},
		{`"a"`, "bc"},
		{"\xff"},
		{`\xff`},
		{"post.created", "p1"},
		{"post.created", "p2"},
		{strings.Repeat("x", 10_000)},
	} {
		id := emit.ID(parts...)
		require.Equal(t, id, emit.ID(parts...))
		require.True(t, webhook.ValidID(id), id)
		require.NotContains(t, seen, id, "%q and %q", parts, seen[id])
		seen[id] = parts
	}
	require.Equal(t, "evt_vz9il0JF8z4b6W-zAAEkyRltBZNY1AReHoZjHqA4_84", emit.ID("post.created", "p1"), "for ever")
}
