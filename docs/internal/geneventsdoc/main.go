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

Every delivery is a signed ` + "`POST`" + ` ([verifying-signatures.md](verifying-signatures.md)) with the body ` + "`{event, timestamp, data}`" + `.
` + "`timestamp`" + ` says when the event happened, in RFC 3339 with milliseconds, UTC. Fields of ` + "`data`" + ` may be missing, and others may be added: ignore
unknown ones. An emitter can limit an event to the bots in ` + "`botIds`" + `. A webhook's [filter](webhooks.md#filters), and polling, can ask for values of any
field that is text, a boolean or an integer.
`

// exampleTime is the timestamp of the examples, as in the API's reference.
const exampleTime = "2025-03-20T10:30:00.000Z"

// audiences say which webhooks the events of an audience reach.
var audiences = map[webhook.Audience]string{
	webhook.Broadcast: "every subscribed webhook",
	webhook.Targeted:  "the subscribed webhooks of the bots concerned",
	webhook.Direct:    "one address; it cannot be emitted",
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
	b.WriteString("\n| event | when | goes to |\n|---|---|---|\n")
	for _, spec := range catalog {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s |\n", spec.Type, anchor(spec.Type), spec.Description, audiences[spec.Audience])
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
		fmt.Fprintf(&b, "\n## %s\n\n| field of `data` | holds |\n|---|---|\n", spec.Type)
		for _, field := range spec.Fields {
			fmt.Fprintf(&b, "| `%s` | %s |\n", field.Name, field.Description)
		}
		fmt.Fprintf(&b, "\n```json\n%s\n```\n", indented.String())
	}
	return b.Bytes(), nil
}

// anchor is how Git hosts link to a heading that is an event type: without its full stop.
func anchor(t webhook.EventType) string { return strings.ReplaceAll(string(t), ".", "") }
