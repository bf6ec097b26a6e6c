// Gentypes writes the types of events for the Python package from the catalog.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/mathub/webhooks/webhook"
)

//go:generate go run . ../mathub_webhooks/catalog.py

const head = `# Code generated from webhook/catalog.go by "make generate". DO NOT EDIT.
"""The types of events. An event may have further fields, and a later version of the service further types."""

from __future__ import annotations

from typing import Any, Dict, Literal, TypedDict, Union


class _Received(TypedDict, total=False):
    test: bool  # true for the sample of a type that the webhook's owner asked for
`

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gentypes FILE")
		os.Exit(2)
	}
	if err := os.WriteFile(os.Args[1], []byte(types(webhook.Catalog())), 0o644); err != nil { //nolint:gosec // a source file
		fmt.Fprintln(os.Stderr, "gentypes:", err)
		os.Exit(1)
	}
}

// types is the catalog as Python. Only what the service itself sends always has all its fields.
func types(catalog []webhook.EventSpec) string {
	var b strings.Builder
	b.WriteString(head)
	var names []string
	for _, spec := range catalog {
		name, total := className(spec.Type), ", total=False"
		if spec.Audience == webhook.Direct {
			total = ""
		}
		names = append(names, name)
		fmt.Fprintf(&b, "\n\nclass %sData(TypedDict%s):\n", name, total)
		for _, field := range spec.Fields {
			fmt.Fprintf(&b, "    %s: %s  # %s\n", field.Name, kind(field.Example), field.Description)
		}
		fmt.Fprintf(&b, "\n\nclass %s(_Received):\n    \"\"\"%s\"\"\"\n\n    id: str\n    event: Literal[%q]\n    timestamp: str\n    data: %sData\n", name, spec.Description, spec.Type, name)
	}
	fmt.Fprintf(&b, "\n\nMathubEvent = Union[\n    %s,\n]\n", strings.Join(names, ",\n    "))
	return b.String()
}

// className is such as PostCreated.
func className(t webhook.EventType) string {
	var b strings.Builder
	for word := range strings.FieldsFuncSeq(string(t), func(r rune) bool { return r == '.' || r == '_' }) {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}

// kind is the type of which a JSON value is an example.
func kind(example string) string {
	var value any
	_ = json.Unmarshal([]byte(example), &value) // the catalog's tests say that it is valid
	switch value.(type) {
	case string:
		return "str"
	case float64:
		return "int"
	case bool:
		return "bool"
	}
	return "Dict[str, Any]"
}
