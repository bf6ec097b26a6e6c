// Geneventsdoc writes docs/events.md from the catalog of events.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/mathub/webhooks/webhook"
)

const head = `<!-- Generated from webhook/catalog.go by "make generate": do not edit. -->

# Events

Every delivery is a ` + "`POST`" + ` whose body is ` + "`{event, timestamp, data}`" + `. The timestamp is RFC 3339 in UTC, with milliseconds: when
the event happened. An emitter may leave fields of ` + "`data`" + ` out or add others, so ignore those that you do not know.

How to know that it is genuine: [verifying-signatures.md](verifying-signatures.md).
`

// exampleTime is the timestamp of the examples, as in the API's reference.
const exampleTime = "2025-03-20T10:30:00.000Z"

// audiences say whom the events of an audience reach.
var audiences = map[webhook.Audience]string{
	webhook.Broadcast: "Goes to every subscribed webhook; an emitter may narrow that with `botIds`.",
	webhook.Targeted:  "Goes to the subscribed webhooks of the bots concerned.",
	webhook.Direct:    "Goes to one address. It can be neither subscribed to nor emitted.",
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: geneventsdoc FILE")
		os.Exit(2)
	}
	page, err := render(webhook.Catalog())
	if err == nil {
		err = os.WriteFile(os.Args[1], page, 0o644) //nolint:gosec // a page for all to read
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "geneventsdoc:", err)
		os.Exit(1)
	}
}

func render(catalog []webhook.EventSpec) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(head)
	b.WriteString("\n| event | when |\n|---|---|\n")
	for _, spec := range catalog {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", spec.Type, anchor(spec.Type), spec.Description)
	}
	for _, spec := range catalog {
		body, err := json.Marshal(struct {
			Event     webhook.EventType `json:"event"`
			Timestamp string            `json:"timestamp"`
			Data      json.RawMessage   `json:"data"`
		}{spec.Type, exampleTime, spec.ExampleData()})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", spec.Type, err)
		}
		var indented bytes.Buffer
		if err := json.Indent(&indented, body, "", "  "); err != nil {
			return nil, fmt.Errorf("%s: %w", spec.Type, err)
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s %s\n\n| field of `data` | holds |\n|---|---|\n", spec.Type, spec.Description, audiences[spec.Audience])
		for _, field := range spec.Fields {
			fmt.Fprintf(&b, "| `%s` | %s |\n", field.Name, field.Description)
		}
		fmt.Fprintf(&b, "\n```json\n%s\n```\n", indented.String())
	}
	return b.Bytes(), nil
}

// anchor is how Git hosts link to a heading that is an event type: without its full stop.
func anchor(t webhook.EventType) string { return strings.ReplaceAll(string(t), ".", "") }
