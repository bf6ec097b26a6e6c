package cli

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	mathub "github.com/mathub/webhooks/clients/go"
)

// TestFilterOf: values stand between commas, as in CSV; a field that is given again has more.
func TestFilterOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{nil, `null`},
		{[]string{"projectSlug=number-theory,topology"}, `{"projectSlug":["number-theory","topology"]}`},
		{[]string{"projectSlug=a", "threadId=t", "projectSlug=b"}, `{"projectSlug":["a","b"],"threadId":["t"]}`},
		{[]string{`title="a, b",say "x",c=d`}, `{"title":["a, b","say \"x\"","c=d"]}`},
		{[]string{`title=a, b, "c, d"," e"`}, `{"title":["a","b","c, d"," e"]}`},
		{[]string{"title="}, `{"title":[""]}`},
		{[]string{"unknown=true"}, `{"unknown":["true"]}`},
	} {
		filter, err := filterOf(c.flags)
		require.NoError(t, err)
		text, err := json.Marshal(filter)
		require.NoError(t, err)
		require.Equal(t, c.want, string(text))
	}
	for _, flag := range []string{"", "projectSlug", "=a", "title=a\nb"} {
		_, err := filterOf([]string{flag})
		require.ErrorContains(t, err, "--filter", flag)
	}
}

func TestFilterText(t *testing.T) {
	t.Parallel()
	require.Equal(t, "-", filterText(nil))
	require.Equal(t, "a=x,true,7000000; b=y", filterText(mathub.Filter{"b": {"y"}, "a": {"x", true, float64(7_000_000)}}))
}

func TestSetFilter(t *testing.T) {
	t.Parallel()
	params := &mathub.PollEventsParams{}
	require.NoError(t, setFilter(params, []string{"projectSlug=a,b", "authorId=c"}))
	require.Equal(t, &mathub.PollEventsParams{ProjectSlug: []string{"a", "b"}, AuthorID: []string{"c"}}, params)
	require.ErrorContains(t, setFilter(params, []string{"types=a"}), "types is not a field of any event type")
	require.ErrorContains(t, setFilter(params, []string{"nope=a"}), "nope is not a field of any event type")
}
