package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/mathub/webhooks/webhook"
)

const eventsHead = `// Code generated from webhook/catalog.go by "make generate". DO NOT EDIT.

/** The data of each event type. Fields that are optional may be missing; an event may have further ones. */
export interface EventData {
`

// eventTypes is the catalog as TypeScript. Only what the service itself sends always has all its fields.
func eventTypes(catalog []webhook.EventSpec) (string, error) {
	var b strings.Builder
	b.WriteString(eventsHead)
	names := map[webhook.Audience][]string{}
	for _, spec := range catalog {
		name := fmt.Sprintf("%q", spec.Type)
		names[spec.Audience] = append(names[spec.Audience], name)
		fmt.Fprintf(&b, "%s\t%s: {\n", comment("\t", spec.Description), name)
		mark := "?"
		if spec.Audience == webhook.Direct {
			mark = ""
		}
		for _, field := range spec.Fields {
			kind, err := typeOfExample(json.RawMessage(field.Example))
			if err != nil {
				return "", fmt.Errorf("%s of %s: %w", field.Name, spec.Type, err)
			}
			fmt.Fprintf(&b, "%s\t\t%s%s: %s;\n", comment("\t\t", field.Description), field.Name, mark, kind)
		}
		b.WriteString("\t};\n")
	}
	b.WriteString("}\n")
	for _, kind := range []struct {
		audience   webhook.Audience
		name, says string
	}{
		{webhook.Broadcast, "broadcastEventTypes", "Events of these types go to every subscribed webhook."},
		{webhook.Targeted, "targetedEventTypes", "Events of these types go to the subscribed webhooks of the bots that they concern."},
		{webhook.Direct, "directEventTypes", "Events of these types go to one address, which did not subscribe to them. They cannot be emitted."},
	} {
		fmt.Fprintf(&b, "\n%sexport const %s = [%s] as const;\n", comment("", kind.says), kind.name, strings.Join(names[kind.audience], ", "))
	}
	return b.String(), nil
}

// typeOfExample is the type of which a JSON value is an example. The members of an object are in its order.
func typeOfExample(example json.RawMessage) (string, error) {
	decoder := json.NewDecoder(bytes.NewReader(example))
	token, err := decoder.Token()
	if err != nil {
		return "", err
	}
	switch token := token.(type) {
	case string:
		return "string", nil
	case float64:
		return "number", nil
	case bool:
		return "boolean", nil
	case json.Delim:
		if token != '{' {
			break
		}
		var members []string
		for decoder.More() {
			name, err := decoder.Token()
			if err != nil {
				return "", err
			}
			var value json.RawMessage
			if err := decoder.Decode(&value); err != nil {
				return "", err
			}
			kind, err := typeOfExample(value)
			if err != nil {
				return "", err
			}
			members = append(members, fmt.Sprintf("%s: %s", name, kind))
		}
		return "{ " + strings.Join(members, "; ") + " }", nil
	}
	return "", fmt.Errorf("no type for %s", example)
}

// comment is a documentation comment with a line break after it, or nothing.
func comment(indent, text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(text), "*/", "*\\/")
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	if len(lines) == 1 {
		return indent + "/** " + text + " */\n"
	}
	var b strings.Builder
	b.WriteString(indent + "/**\n")
	for _, line := range lines {
		b.WriteString(strings.TrimRight(indent+" * "+line, " ") + "\n")
	}
	b.WriteString(indent + " */\n")
	return b.String()
}
