// Package eventschema holds the data of emitted events against the catalog's schemas.
package eventschema

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/mathub/webhooks/webhook"
)

// Mode is what becomes of an event whose data does not fit.
type Mode string

// The modes.
const (
	Off     Mode = "off"     // nothing: data is not looked at
	Warn    Mode = "warn"    // it is accepted, and the receipt says what does not fit
	Enforce Mode = "enforce" // it is refused
)

// maxFaults bounds what is said of one event.
const maxFaults = 10

// Checker holds events against the schemas. It is safe for concurrent use.
type Checker struct {
	schemas map[webhook.EventType]*jsonschema.Schema
}

// NewChecker makes one of the catalog.
func NewChecker() (*Checker, error) {
	compiler := jsonschema.NewCompiler()
	c := &Checker{schemas: map[webhook.EventType]*jsonschema.Schema{}}
	for _, spec := range webhook.Catalog() {
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(spec.Schema()))
		if err != nil {
			return nil, fmt.Errorf("the schema of %s: %w", spec.Type, err)
		}
		id := webhook.SchemaID(spec.Type)
		if err := compiler.AddResource(id, document); err != nil {
			return nil, fmt.Errorf("the schema of %s: %w", spec.Type, err)
		}
		if c.schemas[spec.Type], err = compiler.Compile(id); err != nil {
			return nil, fmt.Errorf("the schema of %s: %w", spec.Type, err)
		}
	}
	return c, nil
}

// Faults are what does not fit about an event's data, by its fields: the first few. The event is valid otherwise.
func (c *Checker) Faults(e webhook.Event) []webhook.FieldError {
	data, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Data))
	if err != nil {
		return []webhook.FieldError{{Field: "data", Message: "must be a JSON object"}}
	}
	var wrong *jsonschema.ValidationError
	if !errors.As(c.schemas[e.Type].Validate(data), &wrong) {
		return nil
	}
	faults := leaves(wrong, nil)
	slices.SortFunc(faults, func(a, b webhook.FieldError) int { return strings.Compare(a.Field, b.Field) })
	return faults[:min(len(faults), maxFaults)]
}

var english = message.NewPrinter(language.English)

// leaves are the faults that have no causes of their own.
func leaves(e *jsonschema.ValidationError, found []webhook.FieldError) []webhook.FieldError {
	if len(e.Causes) == 0 {
		field := strings.Join(append([]string{"data"}, e.InstanceLocation...), ".")
		return append(found, webhook.FieldError{Field: webhook.Shorten(field), Message: "does not fit its schema: " + e.ErrorKind.LocalizedString(english)})
	}
	for _, cause := range e.Causes {
		found = leaves(cause, found)
	}
	return found
}
