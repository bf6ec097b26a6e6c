// Catalogdoc writes into openapi.yaml what it says of the catalog's events: their types, the parameters by which polling
// filters them, and the webhooks that send them.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mathub/webhooks/webhook"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: catalogdoc FILE")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "catalogdoc:", err)
		os.Exit(1)
	}
}

func write(file string) error {
	document, err := os.ReadFile(file) //nolint:gosec // named by who runs it
	if err != nil {
		return err
	}
	drawn, err := draw(string(document), webhook.Catalog())
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(drawn), 0o644) //nolint:gosec // a document for all to read
}

// parts are those of the document, each whole lines.
var parts = []struct {
	name  string
	place *regexp.Regexp
	draw  func([]webhook.EventSpec) string
}{
	{"the enum of EventType", regexp.MustCompile(`(?m)(^    EventType:\n.*\n.*\n)      enum: .*\n`), types},
	{"the parameters of polling", regexp.MustCompile(`(?m)(^        - \{ name: wait, .*\n)(?:        - \{ name: \w+, in: query, allowEmptyValue: true, description: "Only events whose data has .*\n)+`), parameters},
	{"the webhooks", regexp.MustCompile(`(?m)(^webhooks:\n)(?:  .*\n)+`), webhooks},
}

// draw is the document with what it says of the catalog.
func draw(document string, catalog []webhook.EventSpec) (string, error) {
	for _, part := range parts {
		at := part.place.FindAllStringSubmatchIndex(document, -1)
		if len(at) != 1 {
			return "", fmt.Errorf("%s: found %d times", part.name, len(at))
		}
		document = document[:at[0][3]] + part.draw(catalog) + document[at[0][1]:]
	}
	return document, nil
}

func subscribable(catalog []webhook.EventSpec) []webhook.EventSpec {
	return slices.DeleteFunc(slices.Clone(catalog), func(s webhook.EventSpec) bool { return s.Audience == webhook.Direct })
}

func types(catalog []webhook.EventSpec) string {
	var names []string
	for _, spec := range subscribable(catalog) {
		names = append(names, string(spec.Type))
	}
	return "      enum: [" + strings.Join(names, ", ") + "]\n"
}

func parameters(catalog []webhook.EventSpec) string {
	var b strings.Builder
	for _, field := range webhook.FilterFieldsOf(subscribable(catalog)) {
		fmt.Fprintf(&b, "        - { name: %s, in: query, allowEmptyValue: true, description: \"Only events whose data has this `%s`. May be repeated: any of the values will do.\","+
			" schema: { type: array, items: { type: string } } }\n", field.Name, field.Name)
	}
	return b.String()
}

const headers = `      # No components: generators of clients leave those away that only events refer to.
      parameters: &headers
        - { name: X-Mathub-Event, in: header, required: true, description: The event type., schema: { type: string } }
        - { name: X-Mathub-Delivery, in: header, required: true, description: "The delivery's id, a new one for each attempt.", schema: { type: string, format: uuid } }
        - { name: X-Mathub-Signature, in: header, description: "HMAC-SHA256 of the raw body, keyed with the secret, in lower-case hex. Absent without a secret.", schema: { type: string, pattern: "^[0-9a-f]{64}$" } }
        - { name: webhook-id, in: header, required: true, description: "The event's id, the same on every attempt. Ignore an id that you have handled.", schema: { type: string } }
        - { name: webhook-timestamp, in: header, required: true, description: "When this attempt began, in Unix seconds.", schema: { type: string, pattern: "^[0-9]+$" } }
        - { name: webhook-signature, in: header, description: "The Standard Webhooks signatures, separated by spaces: ` + "`v1,`" + ` and base64, one for each active secret, and ` + "`v1a,`" + ` and base64, one for each active key pair. Absent without either.", schema: { type: string } }
`

var goesTo = map[webhook.Audience]string{
	webhook.Broadcast: "Goes to every subscribed webhook, or to those of the bots that the event names.",
	webhook.Targeted:  "Goes to the subscribed webhooks of the bots that it concerns.",
	webhook.Direct:    "Goes to one endpoint, which did not subscribe to it.",
}

func webhooks(catalog []webhook.EventSpec) string {
	var b strings.Builder
	given := headers
	for _, spec := range catalog {
		fmt.Fprintf(&b, "  %s:\n    post:\n      tags: [events]\n      operationId: %s\n      summary: %q\n      description: %q\n      security: []\n",
			spec.Type, operation(spec.Type), spec.Description, goesTo[spec.Audience])
		b.WriteString(given)
		given = "      parameters: *headers\n"
		fmt.Fprintf(&b, `      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              required: [event, timestamp, data]
              properties:
                event: { type: string, const: %s }
                timestamp: { $ref: "#/components/schemas/Time" }
                data:
                  type: object
                  properties:
`, spec.Type)
		for _, field := range spec.Fields {
			fmt.Fprintf(&b, "                    %s: { %s, description: %q }\n", field.Name, kind(field), field.Description)
		}
		fmt.Fprintf(&b, "            example:\n              event: %s\n              timestamp: \"2025-03-20T10:30:00.000Z\"\n              data:\n", spec.Type)
		for _, field := range spec.Fields {
			fmt.Fprintf(&b, "                %s: %s\n", field.Name, field.Example) // JSON is YAML
		}
		b.WriteString("      responses:\n        2XX: { $ref: \"#/components/responses/Taken\" }\n        default: { $ref: \"#/components/responses/NotTaken\" }\n")
	}
	return b.String()
}

// operation is such as onPostCreated of post.created, or onEffortStatusChanged of effort.status_changed.
func operation(t webhook.EventType) string {
	name := "on"
	for word := range strings.FieldsFuncSeq(string(t), func(r rune) bool { return r == '.' || r == '_' }) {
		name += strings.ToUpper(word[:1]) + word[1:]
	}
	return name
}

// kind is what a schema says of a field's values.
func kind(field webhook.Field) string {
	switch {
	case isTime(field.Example):
		return "type: string, format: date-time"
	case field.Type() == "object":
		return "type: object, additionalProperties: true"
	}
	return "type: " + field.Type()
}

// isTime says that a JSON value is a string with a time.
func isTime(value string) bool {
	var at time.Time // which reads RFC 3339
	return value != "null" && json.Unmarshal([]byte(value), &at) == nil
}
