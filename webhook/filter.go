package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a webhook's filter.
const (
	MaxFilterFields     = 10
	MaxFilterValues     = 100  // of a field
	MaxFilterValueBytes = 256  // of a string, in UTF-8
	MaxFilterBytes      = 8192 // of the whole filter as JSON: every event's lookup may read it
)

// Filter says which events a webhook gets: for each named field at the top level of the events' data, the values of which any
// will do. All its fields must match. An empty one lets every event pass.
type Filter map[string][]FilterValue

// FilterValue is a string, a boolean or an integer of 64 bits. Values of different kinds differ: the string "true" is not true.
// Strings are equal where all their code points are. The zero value is no value.
type FilterValue struct {
	kind   valueKind
	text   string // of a string
	number int64  // of an integer; of a boolean 1 or 0
}

// valueKind is a type of JSON Schema.
type valueKind string

const (
	stringKind  valueKind = "string"
	booleanKind valueKind = "boolean"
	integerKind valueKind = "integer"
)

// MarshalJSON encodes the value as it stands in JSON.
func (v FilterValue) MarshalJSON() ([]byte, error) {
	if v.kind == stringKind {
		return json.Marshal(v.text)
	}
	return []byte(v.String()), nil
}

// UnmarshalJSON decodes a string, a boolean or an integer.
func (v *FilterValue) UnmarshalJSON(raw []byte) (err error) {
	*v, err = filterValue(raw)
	return err
}

// String is the value as a person writes it.
func (v FilterValue) String() string {
	switch v.kind {
	case booleanKind:
		return strconv.FormatBool(v.number == 1)
	case integerKind:
		return strconv.FormatInt(v.number, 10)
	case stringKind:
	}
	return v.text
}

var (
	errNoFilterValue = errors.New("must be a string, a boolean or an integer")
	errNoInteger     = errors.New("must be an integer from -2^63 to 2^63-1")
)

// filterValue reads one that is well-formed JSON.
func filterValue(raw []byte) (FilterValue, error) {
	switch jsontext.Value(raw).Kind() {
	case '"':
		text, err := jsontext.AppendUnquote(nil, raw)
		return FilterValue{kind: stringKind, text: string(text)}, err
	case 't':
		return FilterValue{kind: booleanKind, number: 1}, nil
	case 'f':
		return FilterValue{kind: booleanKind}, nil
	case '0':
		n, ok := integerOf(string(raw))
		if !ok {
			return FilterValue{}, errNoInteger
		}
		return FilterValue{kind: integerKind, number: n}, nil
	}
	return FilterValue{}, errNoFilterValue
}

// integerOf is the integer of 64 bits that a JSON number stands for: 1.0 and 1e2 are integers, as JSON Schema has it. It
// calculates with digits, so that 2^53 is no limit.
func integerOf(number string) (int64, bool) {
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		return n, true
	}
	sign, number := strings.HasPrefix(number, "-"), strings.TrimPrefix(number, "-")
	mantissa, power, _ := strings.Cut(strings.ToLower(number), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return 0, true
	}
	exponent, err := 0, error(nil)
	if power != "" {
		exponent, err = strconv.Atoi(power)
	}
	const most = 1 << 24 // more digits than an event has
	if err != nil || exponent > most || exponent < -most {
		return 0, false
	}
	point := exponent + len(digits) - len(fraction) // the digits before it
	significant := strings.TrimRight(digits, "0")
	if point < len(significant) || point > len("9223372036854775808") {
		return 0, false
	}
	text := significant + strings.Repeat("0", point-len(significant))
	if sign {
		text = "-" + text
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// ParseFilter reads a filter as a request has it: an object of arrays. null and an object without members are no filter. The
// error is an *InvalidError of fields such as "filter.projectSlug". What the catalog knows, Check says.
func ParseFilter(raw json.RawMessage) (Filter, error) {
	if isNull(raw) {
		return nil, nil
	}
	var fields map[string]json.RawMessage
	if jsontext.Value(raw).Kind() != '{' || json.Unmarshal(raw, &fields) != nil {
		return nil, invalid("filter", "must be an object of arrays")
	}
	if len(fields) > MaxFilterFields {
		return nil, invalid("filter", fmt.Sprintf("must have at most %d fields", MaxFilterFields))
	}
	var faults InvalidError
	f := make(Filter, len(fields))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f[name] = readValues(name, fields[name], &faults)
	}
	if err := faults.orNil(); err != nil {
		return nil, err
	}
	return f, nil
}

// readValues reads the values of a field.
func readValues(name string, raw json.RawMessage, faults *InvalidError) []FilterValue {
	field := filterField(name)
	var items []json.RawMessage
	if jsontext.Value(raw).Kind() != '[' || json.Unmarshal(raw, &items) != nil {
		faults.add(field, "must be an array of values")
		return nil
	}
	if len(items) > MaxFilterValues { // before each is read
		faults.add(field, tooManyValues)
		return nil
	}
	values := make([]FilterValue, len(items))
	for i, item := range items {
		var err error
		if values[i], err = filterValue(item); err != nil {
			faults.addIndexed(field, i, err.Error())
		}
	}
	return values
}

func filterField(name string) string { return "filter." + Shorten(name) }

var tooManyValues = fmt.Sprintf("must have 1 to %d values", MaxFilterValues)

// Check returns the filter with each value once, nil for an empty one, if it may be that of a webhook that subscribes to the
// types: they are valid, or what the catalog knows is not looked at. The error is an *InvalidError of fields such as
// "filter.projectSlug".
func (f Filter) Check(types []EventType) (Filter, error) {
	if len(f) == 0 {
		return nil, nil
	}
	if len(f) > MaxFilterFields {
		return nil, invalid("filter", fmt.Sprintf("must have at most %d fields", MaxFilterFields))
	}
	known := FilterFields(types)
	var faults InvalidError
	checked := make(Filter, len(f))
	for _, name := range slices.Sorted(maps.Keys(f)) {
		n := fieldAt(known, name)
		if n < 0 {
			faults.add(filterField(name), unknownFilterField(known))
			continue
		}
		checked[name] = known[n].check(f[name], &faults)
	}
	if err := faults.orNil(); err != nil {
		return nil, err
	}
	if size := len(checked.JSON()); size > MaxFilterBytes {
		return nil, invalid("filter", fmt.Sprintf("must have at most %d bytes of JSON; it has %d", MaxFilterBytes, size))
	}
	return checked, nil
}

func unknownFilterField(known []FilterField) string {
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = k.Name
	}
	return "is not a field of these event types that a filter can have; those are: " + strings.Join(names, ", ")
}

// JSON is the filter as it is stored and shown, its fields in order; nil for an empty one.
func (f Filter) JSON() []byte {
	if len(f) == 0 {
		return nil
	}
	text, err := json.Marshal(f)
	if err != nil {
		panic(err) // its values are JSON
	}
	return text
}

// StoredFilter reads what JSON has made.
func StoredFilter(text []byte) (f Filter, err error) {
	if text == nil {
		return nil, nil
	}
	return f, json.Unmarshal(text, &f)
}

// FilterField is a field that the filter of a webhook can name.
type FilterField struct {
	Name, Description string
	// Types are those of the event types asked for that have the field.
	Types []EventType

	kinds []valueKind
}

// fieldAt is the place of the field with a name; -1: there is none.
func fieldAt(fields []FilterField, name string) int {
	return slices.IndexFunc(fields, func(f FilterField) bool { return f.Name == name })
}

// FilterFields are the fields of event types that a filter can name: strings, booleans and integers, in the catalog's order.
func FilterFields(types []EventType) []FilterField {
	return FilterFieldsOf(slices.DeleteFunc(Catalog(), func(s EventSpec) bool { return !slices.Contains(types, s.Type) }))
}

// FilterFieldsOf are the fields of such events that a filter can name.
func FilterFieldsOf(specs []EventSpec) (fields []FilterField) {
	for _, spec := range specs {
		for _, f := range spec.Fields {
			kind := valueKind(f.Type())
			if kind != stringKind && kind != booleanKind && kind != integerKind {
				continue
			}
			n := fieldAt(fields, f.Name)
			if n < 0 {
				n, fields = len(fields), append(fields, FilterField{Name: f.Name, Description: f.Description})
			}
			if fields[n].Types = append(fields[n].Types, spec.Type); !slices.Contains(fields[n].kinds, kind) {
				fields[n].kinds = append(fields[n].kinds, kind)
			}
		}
	}
	return fields
}

// check returns each value once.
func (k FilterField) check(values []FilterValue, faults *InvalidError) []FilterValue {
	field := filterField(k.Name)
	if len(values) == 0 || len(values) > MaxFilterValues {
		faults.add(field, tooManyValues)
		return nil
	}
	once := make([]FilterValue, 0, len(values))
	for i, v := range values {
		switch {
		case !slices.Contains(k.kinds, v.kind):
			faults.addIndexed(field, i, "must be "+k.kindNames())
		case len(v.text) > MaxFilterValueBytes:
			faults.addIndexed(field, i, fmt.Sprintf("must have at most %d bytes", MaxFilterValueBytes))
		case strings.ContainsRune(v.text, 0):
			faults.addIndexed(field, i, "must not contain NUL")
		case !slices.Contains(once, v):
			once = append(once, v)
		}
	}
	return once
}

func (k FilterField) kindNames() string {
	names := map[valueKind]string{stringKind: "a string", booleanKind: "true or false", integerKind: "an integer"}
	texts := make([]string, len(k.kinds))
	for i, kind := range k.kinds {
		texts[i] = names[kind]
	}
	return strings.Join(texts, " or ")
}

// Values are what a text, as a person or a query has it, can stand for: a value of each kind that the field has.
func (k FilterField) Values(text string) (values []FilterValue) {
	for _, kind := range k.kinds {
		switch n, err := strconv.ParseInt(text, 10, 64); {
		case kind == stringKind:
			values = append(values, FilterValue{kind: stringKind, text: text})
		case kind == booleanKind && (text == "true" || text == "false"):
			v, _ := filterValue([]byte(text))
			values = append(values, v)
		case kind == integerKind && err == nil:
			values = append(values, FilterValue{kind: integerKind, number: n})
		}
	}
	return values
}

// TextFilter reads a filter whose values are texts, as in forms and queries: each stands for what the catalog says of the field in
// the types. A field that none of them has stays as it is, for Check to say so. The error is an *InvalidError.
func TextFilter(texts map[string][]string, types []EventType) (Filter, error) {
	known := FilterFields(types)
	var faults InvalidError
	f := make(Filter, len(texts))
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		field := FilterField{Name: name, kinds: []valueKind{stringKind}}
		if n := fieldAt(known, name); n >= 0 {
			field = known[n]
		}
		f[name] = []FilterValue{}
		for i, text := range texts[name] {
			values := field.Values(text)
			if len(values) == 0 {
				faults.addIndexed(filterField(name), i, "must be "+field.kindNames())
			}
			f[name] = append(f[name], values...)
		}
	}
	return f, faults.orNil()
}

// DataFields are the values in an event's data that a filter can ask for, by the names of their fields.
type DataFields map[string]FilterValue

// FieldsOf reads the fields of a Body's data. A field that is missing, null, a list, an object, a number that is no integer of 64
// bits, or a string too long for a filter is not among them.
func FieldsOf(body []byte) DataFields {
	fields := DataFields{}
	dec := jsontext.NewDecoder(bytes.NewBuffer(DataOf(body)))
	if token, err := dec.ReadToken(); err != nil || token.Kind() != '{' {
		return fields
	}
	for dec.PeekKind() == '"' {
		token, err := dec.ReadToken()
		if err != nil {
			return fields
		}
		name := token.String()
		raw, err := dec.ReadValue()
		if err != nil {
			return fields
		}
		const longest = len(`"`) + len(`\u0000`)*MaxFilterValueBytes + len(`"`)
		if len(raw) > longest && raw.Kind() == '"' {
			continue
		}
		if v, err := filterValue(raw); err == nil {
			fields[name] = v
		}
	}
	return fields
}

// Match reports whether an event with these fields passes.
func (f Filter) Match(fields DataFields) bool {
	for name, values := range f {
		if v, has := fields[name]; !has || !slices.Contains(values, v) {
			return false
		}
	}
	return true
}

// Overlaps reports whether an event can pass both filters.
func (f Filter) Overlaps(other Filter) bool {
	for name, values := range f {
		others, has := other[name]
		if has && !slices.ContainsFunc(values, func(v FilterValue) bool { return slices.Contains(others, v) }) {
			return false
		}
	}
	return true
}
