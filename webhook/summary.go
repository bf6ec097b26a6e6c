package webhook

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// concern is one of the things that an event is about: a word and the field of its data that names the thing.
type concern struct{ word, field string }

// concerns are what the events of each type are about, as an operator would say it.
var concerns = map[EventType][]concern{
	ThreadCreated:       {{"thread", "threadId"}, {"in", "projectSlug"}},
	PostCreated:         {{"post", "postId"}, {"in thread", "threadId"}},
	EffortCreated:       {{"effort", "effortId"}, {"in", "projectSlug"}},
	EffortStatusChanged: {{"effort", "effortId"}, {"in", "projectSlug"}},
	WikiEdited:          {{"page", "pageSlug"}, {"of", "projectSlug"}},
	Mention:             {{"post", "postId"}, {"in thread", "threadId"}},
	ReviewRequested:     {{"effort", "effortId"}},
	ReviewSubmitted:     {{"review", "reviewId"}, {"of effort", "effortId"}},
	Test:                {{"webhook", "webhookId"}},
	Verify:              {{"webhook", "webhookId"}},
	Disabled:            {{"webhook", "webhookId"}},
	Failing:             {{"webhook", "webhookId"}},
	Recovered:           {{"webhook", "webhookId"}},
}

// maxNameBytes is how much of a thing's id a summary shows: a UUID and a prefix. With it, a summary stays far under the
// 400 bytes that Temporal allows.
const maxNameBytes = 48

// Summary names the event for people, such as "post.created · post p1 in thread t1": its type, and what it concerns by
// the ids in its data. Operators' tools render it as Markdown, and data is by strangers: an id that is not letters and
// digits, with single - or _ between them, is left out. The event has to be valid.
func (e Event) Summary() string {
	var b strings.Builder
	b.WriteString(string(e.Type))
	separator := " · "
	about := concerns[e.Type]
	names := namesIn(e.Data, about)
	for i, c := range about {
		if names[i] == "" {
			continue
		}
		b.WriteString(separator)
		b.WriteString(c.word)
		b.WriteByte(' ')
		b.WriteString(names[i])
		separator = " "
	}
	return b.String()
}

// namesIn reads the fields named by about, and no more of data than it has to.
func namesIn(data []byte, about []concern) []string {
	names := make([]string, len(about))
	dec := jsontext.NewDecoder(bytes.NewBuffer(data)) // read without a copy
	if token, err := dec.ReadToken(); err != nil || token.Kind() != '{' {
		return names
	}
	for left := len(about); left > 0 && dec.PeekKind() == '"'; {
		token, err := dec.ReadToken()
		if err != nil {
			return names
		}
		place := -1
		for i, c := range about {
			if token.String() == c.field {
				place = i
			}
		}
		value, err := dec.ReadValue()
		if err != nil {
			return names
		}
		if place >= 0 {
			names[place] = plainName(value)
			left--
		}
	}
	return names
}

// plainName is an id that is safe to show, else "".
func plainName(value jsontext.Value) string {
	name := string(value)
	switch value.Kind() {
	case '"':
		name = name[1 : len(name)-1] // an escape in it makes it no plain name
	case '0': // a number
	default:
		return ""
	}
	letter := false
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			letter = true
		case letter && (c == '-' || c == '_'):
			letter = false
		default:
			return ""
		}
	}
	switch {
	case !letter:
		return ""
	case len(name) > maxNameBytes:
		return name[:maxNameBytes] + "…"
	}
	return name
}
