package webhook_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// The contract's table, written down once more: type, audience, documented fields.
const contract = `
thread.created broadcast threadId,projectSlug,title,authorId
post.created broadcast postId,threadId,body,authorId
effort.created broadcast effortId,projectSlug,title,authorId
effort.status_changed broadcast effortId,projectSlug,title,oldStatus,newStatus
wiki.edited broadcast projectSlug,pageSlug,title,editorId
mention targeted postId,threadId,body,authorId
review.requested targeted effortId,requestedBy,title
review.submitted targeted effortId,reviewId,reviewerId,verdict
test direct webhookId,botId,message
webhook.verify direct webhookId,botId,nonce
webhook.disabled direct webhookId,botId,host,failureCount,disabledAt,lastError,eventId,enable,recover
webhook.failing direct webhookId,botId,host,reason,since,failureCount,delivered,failed,lastError,eventId
webhook.recovered direct webhookId,botId,host,failingAt,delivered,failed
`

func TestCatalogIsTheContracts(t *testing.T) {
	var lines []string
	for _, spec := range webhook.Catalog() {
		var fields []string
		for _, f := range spec.Fields {
			fields = append(fields, f.Name)
			require.NotEmpty(t, f.Description)
			require.True(t, json.Valid([]byte(f.Example)), f.Name)
		}
		require.NotEmpty(t, spec.Description)
		lines = append(lines, strings.Join([]string{string(spec.Type), spec.Audience.String(), strings.Join(fields, ",")}, " "))

		found, ok := webhook.Spec(spec.Type)
		require.True(t, ok)
		require.Equal(t, spec, found)
		require.True(t, json.Valid(spec.ExampleData()))

		// Every documented example can be emitted, but for those of direct events.
		e := webhook.Event{Type: spec.Type, Data: spec.ExampleData(), BotIDs: []string{"bot-1"}}
		require.Equal(t, spec.Audience == webhook.Direct, e.Validate() != nil)
	}
	require.Equal(t, strings.TrimSpace(contract), strings.Join(lines, "\n"))

	_, ok := webhook.Spec("post.deleted")
	require.False(t, ok)
	require.Equal(t, "unknown", webhook.Audience(9).String())
}

func TestCatalogCannotBeChanged(t *testing.T) {
	webhook.Catalog()[0].Type = "changed"
	require.Equal(t, webhook.ThreadCreated, webhook.Catalog()[0].Type)
	webhook.Subscribable()[0] = "changed"
	require.Equal(t, webhook.ThreadCreated, webhook.Subscribable()[0])
}

func TestSubscribable(t *testing.T) {
	types := webhook.Subscribable()
	require.Len(t, types, strings.Count(contract, " broadcast ")+strings.Count(contract, " targeted "))
	require.NotContains(t, types, webhook.Test)
	require.NotContains(t, types, webhook.Disabled)
	require.NotContains(t, types, webhook.Failing)
	require.NotContains(t, types, webhook.Recovered)
}

func TestCheckSubscription(t *testing.T) {
	got, err := webhook.CheckSubscription([]string{"mention", "post.created", "mention", "post.created"})
	require.NoError(t, err)
	require.Equal(t, []webhook.EventType{webhook.Mention, webhook.PostCreated}, got, "once each, in the order given")

	var valid string
	for _, t := range webhook.Subscribable() {
		valid += ", " + string(t)
	}
	valid = strings.TrimPrefix(valid, ", ")
	for _, c := range []struct {
		name   string
		events []string
		fields []string
	}{
		{"none", nil, []string{"events"}},
		{"empty", []string{}, []string{"events"}},
		{"unknown", []string{"mention", "post.deleted"}, []string{"events[1]"}},
		{"test", []string{"test"}, []string{"events[0]"}},
		{"a notice to owners", []string{"webhook.disabled"}, []string{"events[0]"}},
		{"each fault is named", []string{"", "mention", "Mention", "test", "mention "}, []string{"events[0]", "events[2]", "events[3]", "events[4]"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := webhook.CheckSubscription(c.events)
			require.Equal(t, c.fields, fieldsOf(t, err))
			require.Contains(t, err.Error(), valid, "the valid ones are listed")
		})
	}
	_, err = webhook.CheckSubscription(make([]string, 10_000))
	require.Len(t, fieldsOf(t, err), 20, "bounded")
}

// FuzzCheckSubscription holds the catalog's check to what it promises of any list, here one name a line.
func FuzzCheckSubscription(f *testing.F) {
	f.Add("")
	f.Add("mention\npost.created\nmention")
	f.Add("test\nMention\nmention \n\x00\n\xff\npost\u3002created")
	f.Fuzz(func(t *testing.T, lines string) {
		names := strings.Split(lines, "\n")
		checked, err := webhook.CheckSubscription(names)
		if err != nil {
			require.Empty(t, checked)
			require.LessOrEqual(t, len(fieldsOf(t, err)), 20)
			require.Less(t, len(err.Error()), 8000)
			return
		}
		seen := map[webhook.EventType]bool{}
		for _, event := range checked {
			require.Contains(t, names, string(event))
			require.Contains(t, webhook.Subscribable(), event)
			require.False(t, seen[event], "twice")
			seen[event] = true
		}
		for _, name := range names {
			require.True(t, seen[webhook.EventType(name)], "%q is missing", name)
		}
	})
}

// fieldsOf are the fields that an *InvalidError names.
func fieldsOf(t *testing.T, err error) []string {
	t.Helper()
	var invalid *webhook.InvalidError
	require.ErrorAs(t, err, &invalid)
	var fields []string
	for _, f := range invalid.Fields {
		require.NotEmpty(t, f.Message)
		require.Contains(t, err.Error(), f.Field)
		fields = append(fields, f.Field)
	}
	require.NotEmpty(t, fields)
	var syntax *webhook.SyntaxError
	require.False(t, errors.As(err, &syntax))
	return fields
}
