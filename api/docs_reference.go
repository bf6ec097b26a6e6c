package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"strings"

	"github.com/goccy/go-yaml"
)

// reference is openapi.yaml, for the template of the API reference.
type reference struct {
	Doc    node
	Groups []group
	Setup  string // the lines to paste before any call's
}

func newReference(document []byte) (*reference, error) {
	var root any
	if err := yaml.NewDecoder(bytes.NewReader(document), yaml.UseOrderedMap()).Decode(&root); err != nil {
		return nil, err
	}
	doc := node{root: root, value: root}
	groups := doc.groups()
	return &reference{Doc: doc, Groups: groups, Setup: setup(groups)}, nil
}

// node is a place in the document.
type node struct {
	root, value any
	Key         string // its name in the object that it is in
}

// At goes down by a name, and follows a $ref found there. What is not there is an empty node.
func (n node) At(name string) node {
	m, _ := n.value.(yaml.MapSlice)
	for _, item := range m {
		if fmt.Sprint(item.Key) == name {
			return node{n.root, item.Value, name}.resolved()
		}
	}
	return node{root: n.root}
}

func (n node) resolved() node {
	m, _ := n.value.(yaml.MapSlice)
	for _, item := range m {
		ref, isText := item.Value.(string)
		if item.Key != "$ref" || !isText {
			continue
		}
		to := node{root: n.root, value: n.root, Key: n.Key}
		for _, name := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
			to = to.At(name)
		}
		to.Key = n.Key
		return to
	}
	return n
}

// Each lists what is in an object or array, in the document's order.
func (n node) Each() (all []node) {
	switch v := n.value.(type) {
	case yaml.MapSlice:
		for _, item := range v {
			all = append(all, node{n.root, item.Value, fmt.Sprint(item.Key)}.resolved())
		}
	case []any:
		for _, item := range v {
			all = append(all, node{root: n.root, value: item}.resolved())
		}
	}
	return all
}

// Text is the node's scalar; empty where there is none.
func (n node) Text() string {
	switch v := n.value.(type) {
	case nil, yaml.MapSlice, []any:
		return ""
	default:
		return fmt.Sprint(v)
	}
}

// Prose is the node's text, which is Markdown, as HTML.
func (n node) Prose() template.HTML { return prose(n.Text()) }

// Type says what a schema allows, in a few words.
func (n node) Type() string {
	var names []string
	for _, t := range n.At("type").Each() {
		names = append(names, t.Text())
	}
	for _, one := range n.At("oneOf").Each() {
		names = append(names, one.Type())
	}
	if t := n.At("type").Text(); t != "" {
		names = append(names, t)
	}
	text := strings.Join(names, " or ")
	if items := n.At("items"); items.value != nil {
		text = strings.Replace(text, "array", "array of "+items.Type(), 1)
	}
	if format := n.At("format").Text(); format != "" {
		text += ", " + format
	}
	return text
}

// Examples are a body's, each as indented JSON, or as it stands where it is a text.
func (n node) Examples() (all []string) {
	found := []node{n.At("example")}
	for _, named := range n.At("examples").Each() {
		found = append(found, named.At("value"))
	}
	for _, e := range found {
		if e.value == nil {
			continue
		}
		if text, ok := e.value.(string); ok {
			all = append(all, text)
			continue
		}
		all = append(all, indented(e.value))
	}
	return all
}

func indented(v any) string {
	raw, err := yaml.MarshalWithOptions(v, yaml.JSON())
	if err != nil {
		panic(err) // what was decoded can be encoded
	}
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(raw), "", "  "); err != nil {
		panic(err)
	}
	return b.String()
}
