package pages

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/mathub/webhooks/webhook"
)

// ParseTime reads a time: RFC 3339, or what a field of a date and a time sends, in UTC.
func ParseTime(text string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return webhook.ParseTime(text)
}

// ChangedField is a field that an entry of the audit log is about.
type ChangedField struct{ Name, Before, After string }

// ChangedFields are those of an entry, in the order of their names.
func ChangedFields(before, after map[string]any) (fields []ChangedField) {
	var names []string
	for _, side := range []map[string]any{before, after} {
		for name := range side {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	for _, name := range names {
		fields = append(fields, ChangedField{name, InWords(before, name), InWords(after, name)})
	}
	return fields
}

// InWords is a field's value; empty where there is none.
func InWords(fields map[string]any, name string) string {
	value, ok := fields[name]
	if !ok || value == nil {
		return ""
	}
	if text, is := value.(string); is {
		return text
	}
	text, err := json.Marshal(value)
	if err != nil { // it came from JSON
		return ""
	}
	return string(text)
}
