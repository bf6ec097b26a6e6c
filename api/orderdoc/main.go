// Orderdoc writes the document that Go code is generated from: openapi.yaml, whose members say where they stand, so that Go's
// structs, and with them answers, have them in the contract's order.
package main

import (
	"fmt"
	"os"

	"github.com/goccy/go-yaml"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: orderdoc FROM TO")
		os.Exit(2)
	}
	if err := write(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "orderdoc:", err)
		os.Exit(1)
	}
}

func write(from, to string) error {
	raw, err := os.ReadFile(from) //nolint:gosec // named by who runs it
	if err != nil {
		return err
	}
	var document yaml.MapSlice
	if err := yaml.UnmarshalWithOptions(raw, &document, yaml.UseOrderedMap()); err != nil {
		return err
	}
	number(document)
	if raw, err = yaml.Marshal(document); err != nil {
		return err
	}
	return os.WriteFile(to, raw, 0o600) //nolint:gosec // named by who runs it
}

// number gives each member of an object's properties its place, as oapi-codegen reads it.
func number(in yaml.MapSlice) {
	for i, item := range in {
		inner, isMap := item.Value.(yaml.MapSlice)
		if !isMap {
			continue
		}
		number(inner)
		if item.Key != "properties" {
			continue
		}
		for place := range inner {
			if member, isSchema := inner[place].Value.(yaml.MapSlice); isSchema {
				member = append(member, yaml.MapItem{Key: "x-order", Value: place + 1})
				inner[place].Value = member
			}
		}
		in[i].Value = inner
	}
}
