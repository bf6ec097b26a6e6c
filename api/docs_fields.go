package api

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
)

// field is a row of a table of parameters or of a body's properties.
type field struct {
	Name, Type  string
	Required    bool
	Limits      template.HTML // what is allowed, such as "1 to 50, default 20"
	Description template.HTML
}

// Fields are the properties of a body's schema, those of inner objects included: data.threadId, events[].id.
func (n node) Fields() (fields []field) { return n.fieldsBelow("") }

func (n node) fieldsBelow(prefix string) (fields []field) {
	var required []string
	for _, name := range n.At("required").Each() {
		required = append(required, name.Text())
	}
	for _, property := range n.At("properties").Each() {
		name := prefix + property.Key
		fields = append(fields, field{
			Name: name, Type: property.Type(), Required: slices.Contains(required, property.Key),
			Limits: prose(property.limits()), Description: property.At("description").Prose(),
		})
		fields = append(fields, property.fieldsBelow(name+".")...)
	}
	if items := n.At("items"); items.value != nil {
		if prefix != "" {
			prefix = strings.TrimSuffix(prefix, ".") + "[]."
		}
		fields = append(fields, items.fieldsBelow(prefix)...)
	}
	for _, one := range n.At("oneOf").Each() {
		fields = append(fields, one.fieldsBelow(prefix)...)
	}
	return fields
}

// Field is a parameter or header as a row.
func (n node) Field() field {
	schema := n.At("schema")
	return field{
		Name: n.At("name").Text(), Type: schema.Type(), Required: n.At("required").Text() == "true",
		Limits: prose(schema.limits()), Description: n.At("description").Prose(),
	}
}

// limits are what a schema allows beside its type, as Markdown.
func (n node) limits() string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if values := n.At("enum").Each(); len(values) > 0 {
		var quoted []string
		for _, v := range values {
			quoted = append(quoted, "`"+v.Text()+"`")
		}
		say("one of %s", strings.Join(quoted, ", "))
	}
	if v := n.At("const"); v.value != nil {
		say("always `%s`", v.Text())
	}
	n.span(say, "minimum", "maximum", "")
	n.span(say, "minLength", "maxLength", " character")
	n.span(say, "minItems", "maxItems", " item")
	if v := n.At("pattern").Text(); v != "" {
		say("matches `%s`", v)
	}
	if items := n.At("items"); items.value != nil {
		if of := items.limits(); of != "" {
			say("each %s", of)
		}
	}
	for _, one := range n.At("oneOf").Each() {
		if of := one.limits(); of != "" {
			say("%s", of)
		}
	}
	if v := n.At("default"); v.value != nil {
		say("default `%s`", v.Text())
	}
	return strings.Join(all, "; ")
}

// span says what a lower and an upper limit allow.
func (n node) span(say func(string, ...any), lower, upper, unit string) {
	least, most := n.At(lower), n.At(upper)
	plural := func(count node) string {
		if unit != "" && count.Text() != "1" {
			return unit + "s"
		}
		return unit
	}
	switch {
	case least.value != nil && most.value != nil:
		say("%s to %s%s", least.Text(), most.Text(), plural(most))
	case least.value != nil:
		say("at least %s%s", least.Text(), plural(least))
	case most.value != nil:
		say("at most %s%s", most.Text(), plural(most))
	}
}
