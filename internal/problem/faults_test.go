package problem_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/webhook"
)

// TestARefusalIsBounded, however many faults there are, by whichever way they are added, and however long their names.
func TestARefusalIsBounded(t *testing.T) {
	t.Parallel()
	list := &webhook.InvalidError{Fields: make([]webhook.FieldError, 1000)}
	for i := range list.Fields {
		list.Fields[i] = webhook.FieldError{Field: fmt.Sprint(i, strings.Repeat("ö", 5000)), Message: "must be short"}
	}
	for name, add := range map[string]func(f *problem.Faults){
		"Add": func(f *problem.Faults) {
			for _, of := range list.Fields {
				f.Add(of.Field, of.Message)
			}
		},
		"Check":       func(f *problem.Faults) { f.Check(list) },
		"CheckAs":     func(f *problem.Faults) { f.CheckAs(strings.Repeat("x", 5000), list) },
		"CheckOthers": func(f *problem.Faults) { f.CheckOthers(list) },
	} {
		var faults problem.Faults
		add(&faults)
		fields := problem.Of(faults.Err()).Fields
		require.Len(t, fields, 21, name)
		require.Equal(t, webhook.FieldError{Field: "errors", Message: "has the first 20 faults; there are 980 more"}, fields[20], name)
		for _, f := range fields {
			require.LessOrEqual(t, len(f.Field), 64+len("…"), name)
		}
		require.Equal(t, fields, problem.Of(faults.Err()).Fields, "asked twice")
	}
}

// TestARuleThatLeavesFaultsOutSaysHowMany: those of a list of events, or of an event's bots.
func TestARuleThatLeavesFaultsOutSaysHowMany(t *testing.T) {
	t.Parallel()
	bots := make([]string, 100)
	err := webhook.Event{Type: webhook.Mention, Data: []byte("{}"), BotIDs: bots}.Validate()
	require.ErrorContains(t, err, "; and 80 more")
	err = webhook.ValidateBatch([]webhook.Event{{Type: webhook.Mention, Data: []byte("{}"), BotIDs: bots}, {Type: "none", Data: []byte("{}")}})
	require.ErrorContains(t, err, "; and 81 more")
	want := webhook.FieldError{Field: "errors", Message: "has the first 20 faults; there are 81 more"}
	require.Equal(t, want, problem.Of(err).Fields[20])
	var faults problem.Faults
	faults.Add("url", "is required")
	faults.Check(err)
	faults.CheckOthers(err)
	require.Len(t, problem.Of(faults.Err()).Fields, 21)
	require.Contains(t, problem.Of(faults.Err()).Fields[20].Message, "more")
}

func TestAFewFaultsAreAllListed(t *testing.T) {
	t.Parallel()
	var faults problem.Faults
	for i := range 20 {
		faults.Add(fmt.Sprint(i), "is required")
	}
	require.Len(t, problem.Of(faults.Err()).Fields, 20)
}
