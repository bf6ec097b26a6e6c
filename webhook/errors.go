package webhook

import (
	"fmt"
	"strconv"
	"strings"
)

// FieldError says what is wrong with one field of the input. The message never quotes the field's value: it may be
// a secret, or a URL with a token.
type FieldError struct {
	Field   string `json:"field"` // a path such as "events[1]" or "botIds"
	Message string `json:"message"`
}

// InvalidError says that well-formed input breaks a rule: HTTP 422. It has at least one field.
type InvalidError struct {
	Fields []FieldError // the first MaxFieldErrors
	More   int          // how many more there are
}

// MaxFieldErrors bounds an InvalidError: a list of 1,000 bad ids needs no 1,000 messages.
const MaxFieldErrors = 20

// Error names the fields and what is wrong with them.
func (e *InvalidError) Error() string {
	var b strings.Builder
	b.WriteString("invalid ")
	for i, f := range e.Fields {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.Field)
		b.WriteString(": ")
		b.WriteString(f.Message)
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "; and %d more", e.More)
	}
	return b.String()
}

func (e *InvalidError) add(field, message string) {
	if len(e.Fields) == MaxFieldErrors {
		e.More++
		return
	}
	e.Fields = append(e.Fields, FieldError{field, message})
}

func (e *InvalidError) addIndexed(list string, i int, message string) {
	e.add(list+"["+strconv.Itoa(i)+"]", message)
}

// orNil returns e as an error, or a plain nil if nothing was added.
func (e *InvalidError) orNil() error {
	if len(e.Fields) == 0 {
		return nil
	}
	return e
}

// Invalid is an InvalidError of one field.
func Invalid(field, message string) error { return invalid(field, message) }

func invalid(field, message string) error {
	return &InvalidError{Fields: []FieldError{{field, message}}}
}

// SyntaxError says that input is not the JSON object it has to be: HTTP 400.
type SyntaxError struct {
	// Field is the member at fault where that is known: an unknown or repeated name, or a JSON Pointer (RFC 6901)
	// into the document. Else it is empty.
	Field   string
	Message string
	Offset  int64 // bytes from the input's start, or -1 where no place can be named
}

// Error says what is wrong and where.
func (e *SyntaxError) Error() string {
	var b strings.Builder
	b.WriteString("malformed JSON: ")
	b.WriteString(e.Message)
	if e.Field != "" {
		fmt.Fprintf(&b, " %q", e.Field)
	}
	if e.Offset >= 0 {
		fmt.Fprintf(&b, " at byte %d", e.Offset)
	}
	return b.String()
}
