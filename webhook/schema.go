package webhook

import (
	"encoding/json"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// schemaDialect is that of the schemas: JSON Schema 2020-12.
const schemaDialect = "https://json-schema.org/draft/2020-12/schema"

// SchemaID names an event type's schema, wherever it is served.
func SchemaID(t EventType) string { return "urn:mathub:event:" + string(t) }

type schema struct {
	Dialect     string                    `json:"$schema"`
	ID          string                    `json:"$id"`
	Title       string                    `json:"title"`
	Description string                    `json:"description"`
	Type        string                    `json:"type"`
	Properties  map[string]propertySchema `json:"properties"`
	Examples    []json.RawMessage         `json:"examples"`
}

type propertySchema struct {
	Description string            `json:"description"`
	Type        string            `json:"type"`
	Examples    []json.RawMessage `json:"examples"`
}

// Schema is the JSON Schema of the event type's data. No field is required, and others may be there, as the catalog promises
// no more: what it says of a field is its type.
func (s EventSpec) Schema() json.RawMessage {
	out := schema{
		Dialect: schemaDialect, ID: SchemaID(s.Type), Title: "The data of " + string(s.Type), Description: s.Description, Type: "object",
		Properties: make(map[string]propertySchema, len(s.Fields)), Examples: []json.RawMessage{s.ExampleData()},
	}
	for _, f := range s.Fields {
		out.Properties[f.Name] = propertySchema{f.Description, f.Type(), []json.RawMessage{json.RawMessage(f.Example)}}
	}
	text, err := json.Marshal(out)
	if err != nil {
		panic(fmt.Sprintf("the catalog's %s: %v", s.Type, err)) // an example is no JSON, which a test rules out
	}
	return text
}

// Type is the field's type in JSON Schema, which its example shows.
func (f Field) Type() string {
	switch jsontext.Value(f.Example).Kind() {
	case '"':
		return "string"
	case '0':
		return "integer"
	case 't', 'f':
		return "boolean"
	case '[':
		return "array"
	}
	return "object"
}
