package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// ParseObject reads one JSON object whose members are among the named fields and returns their values as they stand,
// each in a copy of its own. It is strict where encoding/json is lenient: exactly one value and nothing after it, no
// byte order mark, no name twice at any depth, names matched with their case, valid UTF-8, no lone surrogates
// (RFC 7493), and nesting of at most MaxJSONDepth. Every fault is a *SyntaxError.
func ParseObject(raw []byte, fields ...string) (map[string]json.RawMessage, error) {
	if err := checkDepth(raw, MaxJSONDepth); err != nil {
		return nil, err
	}
	// jsontext reads straight from a bytes.Buffer, without copying.
	return readObject(jsontext.NewDecoder(bytes.NewBuffer(raw)), fields)
}

// lenient leaves what is wrong within a value to be found, and named by its place, when that is read by itself.
func lenient(raw []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

func readObject(dec *jsontext.Decoder, fields []string) (map[string]json.RawMessage, error) {
	if dec.PeekKind() != '{' {
		if _, err := dec.ReadValue(); err != nil {
			return nil, syntaxError(err)
		}
		return nil, &SyntaxError{Message: "must be a JSON object", Offset: -1}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntaxError(err)
	}
	members := make(map[string]json.RawMessage, len(fields))
	var unknown error
	for dec.PeekKind() != '}' {
		token, err := dec.ReadToken()
		if err != nil {
			return nil, syntaxError(err)
		}
		name := token.String()
		value, err := dec.ReadValue()
		if err != nil {
			return nil, syntaxError(err)
		}
		switch _, twice := members[name]; {
		case twice: // a decoder that is not lenient has said so
			return nil, &SyntaxError{Field: name, Message: repeatedName, Offset: -1}
		case known(name, fields):
			members[name] = bytes.Clone(value)
		case unknown == nil:
			unknown = unknownField(name, fields)
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntaxError(err)
	}
	end := dec.InputOffset()
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, &SyntaxError{Message: "unexpected data after the object", Offset: end}
	}
	return members, unknown
}

const repeatedName = "duplicate name"

func known(name string, fields []string) bool {
	for _, f := range fields {
		if f == name {
			return true
		}
	}
	return false
}

func unknownField(name string, fields []string) error {
	message := "unknown field"
	for _, f := range fields {
		if strings.EqualFold(f, name) {
			message = fmt.Sprintf("names are case-sensitive (use %q): unknown field", f)
		}
	}
	return &SyntaxError{Field: Shorten(name), Message: message, Offset: -1}
}

// checkDepth measures nesting on the bytes alone, before anything is parsed. On malformed input it may count wrongly,
// which the parser's own refusal then makes moot.
func checkDepth(raw []byte, most int) error {
	depth, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > most {
				return &SyntaxError{Message: fmt.Sprintf("nested deeper than %d levels", most), Offset: int64(i)}
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// hasLongNumber reports whether well-formed JSON has a number of more than MaxNumberBytes.
func hasLongNumber(raw []byte) bool {
	length, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			length, inString = 0, !inString
		case inString:
		case '0' <= c && c <= '9', c == '-', c == '+', c == '.', c == 'e', c == 'E':
			if length++; length > MaxNumberBytes {
				return true
			}
		default:
			length = 0
		}
	}
	return false
}

// syntaxError translates jsontext's errors, whose texts may change and may quote the input.
func syntaxError(err error) error {
	if errors.Is(err, io.EOF) {
		return &SyntaxError{Message: "the input is empty", Offset: 0}
	}
	fault := &SyntaxError{Message: "not valid JSON", Offset: -1}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		fault.Offset = syntactic.ByteOffset
		text := syntactic.Err.Error()
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			fault.Message = repeatedName
			fault.Field = Shorten(strings.TrimPrefix(string(syntactic.JSONPointer), "/"))
		case errors.Is(err, io.ErrUnexpectedEOF):
			fault.Message = "unexpected end of input"
		case strings.Contains(text, "UTF-8"):
			fault.Message = "not valid UTF-8"
		case strings.Contains(text, "surrogate"):
			fault.Message = "a \\u escape is an unpaired surrogate"
		}
	}
	return fault
}

// maxIndented bounds JSON that is indented for people, in bytes. Brackets within brackets grow by the square of what they are.
const maxIndented = 1 << 20

// Indented is JSON with a line for each value, for people to read; false where raw is no JSON, or would be longer than 1 MiB.
func Indented(raw []byte) ([]byte, bool) {
	var b bytes.Buffer
	if mostIndented(raw) > maxIndented || json.Indent(&b, raw, "", indent) != nil {
		return nil, false
	}
	return b.Bytes(), true
}

const indent = "  "

// mostIndented is how many bytes JSON has at most once it is indented.
func mostIndented(raw []byte) int {
	n, depth, inString := len(raw), 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			depth++
			n += 1 + depth*len(indent)
		case c == '}' || c == ']':
			depth = max(depth-1, 0)
			n += 1 + depth*len(indent)
		case c == ',':
			n += 1 + depth*len(indent)
		case c == ':':
			n++
		}
	}
	return n
}

// Shorten bounds how much of the input an error quotes.
func Shorten(s string) string {
	const limit = 64
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
