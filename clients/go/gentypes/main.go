// Gentypes writes the types of events' data from the catalog: of the Go client, or of package emit.
package main

import (
	"fmt"
	"go/format"
	"os"
	"strings"

	"github.com/mathub/webhooks/webhook"
)

const head = `// Code generated from webhook/catalog.go by "make generate". DO NOT EDIT.

package mathub

import "encoding/json"

`

const emitHead = `// Code generated from webhook/catalog.go by "make generate". DO NOT EDIT.

package emit

import "github.com/mathub/webhooks/webhook"

`

var writers = map[string]func([]webhook.EventSpec) ([]byte, error){"mathub": types, "emit": emitTypes}

func main() {
	if len(os.Args) != 3 || writers[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: gentypes mathub|emit FILE")
		os.Exit(2)
	}
	source, err := writers[os.Args[1]](webhook.Catalog())
	if err == nil {
		err = os.WriteFile(os.Args[2], source, 0o644) //nolint:gosec // a source file
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gentypes:", err)
		os.Exit(1)
	}
}

// types is the catalog as Go.
func types(catalog []webhook.EventSpec) ([]byte, error) {
	var structs, methods, cases strings.Builder
	for _, spec := range catalog {
		name := goName(string(spec.Type))
		fmt.Fprintf(&structs, "// %sData is the data of %s. %s\ntype %sData struct {\n", name, spec.Type, spec.Description, name)
		for _, field := range spec.Fields {
			fmt.Fprintf(&structs, "%s %s `json:%q` // %s\n", goName(field.Name), kind(field), field.Name, field.Description)
		}
		structs.WriteString("}\n\n")
		fmt.Fprintf(&cases, "case %q: return dataOf[%sData](raw)\n", spec.Type, name)
		if spec.Audience != webhook.Direct {
			fmt.Fprintf(&methods, "// EventType is %s.\nfunc (%sData) EventType() EventType { return %s }\n\n", spec.Type, name, name)
		}
	}
	return format.Source([]byte(head + structs.String() + methods.String() +
		"// typed is the data of an event of that type: a struct, or raw where the type is not known.\n" +
		"func typed(eventType string, raw json.RawMessage) any {\nswitch eventType {\n" + cases.String() + "}\nreturn raw\n}\n"))
}

// emitTypes is what of the catalog can be emitted, as the structs of package emit.
func emitTypes(catalog []webhook.EventSpec) ([]byte, error) {
	goesTo := map[webhook.Audience]string{
		webhook.Broadcast: "It goes to every subscribed webhook.",
		webhook.Targeted:  "The event's BotIDs have to name the bots.",
	}
	var structs, methods strings.Builder
	for _, spec := range catalog {
		if spec.Audience == webhook.Direct {
			continue
		}
		name := goName(string(spec.Type))
		fmt.Fprintf(&structs, "// %s is the data of %s. %s %s\ntype %s struct {\n", name, spec.Type, spec.Description, goesTo[spec.Audience], name)
		for _, field := range spec.Fields {
			fmt.Fprintf(&structs, "%s %s `json:%q` // %s\n", goName(field.Name), kind(field), field.Name, field.Description)
		}
		structs.WriteString("Extra `json:\"-\"`\n}\n\n")
		fmt.Fprintf(&methods, "\n// EventType is webhook.%s.\nfunc (%s) EventType() webhook.EventType { return webhook.%s }\n", name, name, name)
	}
	return format.Source([]byte(emitHead + strings.TrimSuffix(structs.String(), "\n") + methods.String()))
}

// goName is such as PostCreated of post.created, or ThreadID of threadId.
func goName(name string) string {
	var b strings.Builder
	for word := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '.' || r == '_' }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	if trimmed, ok := strings.CutSuffix(b.String(), "Id"); ok {
		return trimmed + "ID"
	}
	return b.String()
}

// kind is the type of a field's values.
func kind(field webhook.Field) string {
	switch field.Type() {
	case "string":
		return "string"
	case "integer":
		return "int"
	case "boolean":
		return "bool"
	}
	return "json.RawMessage"
}
