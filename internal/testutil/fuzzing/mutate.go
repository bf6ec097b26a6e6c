// Package fuzzing changes the inputs of fuzz targets, and numbers those of their long forms.
package fuzzing

import (
	"encoding/json"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
)

// Mutator changes inputs as a careless or hostile client might. The same seed makes the same changes.
type Mutator struct {
	*rand.Rand
	Names []string // of fields and parameters that the calls have
	Words []string // values that some call takes
}

// NewMutator returns a mutator of the seed. It draws names and words from the lists.
func NewMutator(seed uint64, names, words []string) *Mutator {
	return &Mutator{rand.New(rand.NewPCG(seed, 7)), names, words}
}

// Odd are texts where programs go wrong: at limits, in other encodings, in other languages.
var Odd = []string{
	"", " ", "\n", "\r\n", "\t", "\x00", "a\x00b", "\x7f", "\u0085", "\u00a0", "\u2028", "\u200b", "\ufeff", "\u202e", "\ufffd", "\U0010ffff", "e\u0301", "👩‍👩‍👧‍👦",
	"0", "-0", "-1", "1", "00", "1e9", "1e309", "9223372036854775807", "9223372036854775808", "2147483648", "NaN", "null", "true", "false", "٣",
	"..", "../..", "/", "//", "%", "%00", "%zz", "?", "#", "&", "a=b", "a+b", "a,b", ",", ";", ":", "::", "*", "'", "\"", "\\", "$1", "{}", "[]", "%s", "<script>", "__proto__",
	"latest", "all", "none", "test", "post.created", "mention", "webhook.disabled", "POST.CREATED", "whsec_", "whsec_====", "bot_", "whsk_",
	"0s", "1ns", "24h", "-1h", "168h", "1000000h", "1d", "2025-03-20", "2025-03-20T10:30:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2025-03-20T10:30:00+23:59", "1970-01-01T00:00:00Z", "294277-01-01T00:00:00Z",
	"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "{0195b2f0-5a3e-7c1d-8f00-3b6d2a9c4e71}", "0195b2f05a3e7c1d8f003b6d2a9c4e71",
	"http://", "https://a", "https://127.0.0.1/", "https://[::1]/", "https://user@example.com/", "https://example.com/#x", "https://bücher.example/", "https://example.com:99999/", "javascript:alert(1)",
	"Content-Length", "Host", "webhook-id", "X-Mathub-Event", "a b", "Authorization",
}

// Text returns an Odd text, a word, or a changed one.
func (m *Mutator) Text(text string) string {
	switch m.IntN(8) {
	case 0, 1:
		return Odd[m.IntN(len(Odd))]
	case 2:
		return m.word()
	case 3:
		return text + Odd[m.IntN(len(Odd))]
	case 4:
		return strings.Repeat(text[:min(len(text), 40)]+"x", 1<<m.IntN(12))
	case 5:
		return strings.ToUpper(text)
	case 6:
		return text[:m.IntN(len(text)+1)] // also within a character
	default:
		at := m.IntN(len(text) + 1)
		return text[:at] + string(rune(m.IntN(0x3000))) + text[at:]
	}
}

func (m *Mutator) word() string {
	if len(m.Words) == 0 {
		return ""
	}
	return m.Words[m.IntN(len(m.Words))]
}

func (m *Mutator) name() string {
	if len(m.Names) == 0 || m.IntN(8) == 0 {
		return m.Text("name")
	}
	return m.Names[m.IntN(len(m.Names))]
}

// Values changes one to three parameters of a query or a form.
func (m *Mutator) Values(values url.Values) url.Values {
	if values == nil {
		values = url.Values{}
	}
	for range 1 + m.IntN(3) {
		names := slices.Sorted(func(yield func(string) bool) {
			for name := range values {
				if !yield(name) {
					return
				}
			}
		})
		if len(names) == 0 || m.IntN(4) == 0 {
			values.Set(m.name(), m.word())
			continue
		}
		name := names[m.IntN(len(names))]
		switch m.IntN(6) {
		case 0:
			values.Del(name)
		case 1:
			values.Add(name, m.Text(values.Get(name)))
		default:
			values.Set(name, m.Text(values.Get(name)))
		}
	}
	return values
}

// JSON changes one to three places of a JSON text; now and then it breaks the text.
func (m *Mutator) JSON(text string) string {
	var tree any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if decoder.Decode(&tree) != nil {
		tree = map[string]any{}
	}
	for range 1 + m.IntN(3) {
		tree = m.tree(tree)
	}
	changed, err := json.Marshal(tree)
	if err != nil {
		return m.Text(text)
	}
	if m.IntN(16) == 0 {
		return m.broken(string(changed))
	}
	return string(changed)
}

// broken is text that is JSON no more, or that parsers disagree about.
func (m *Mutator) broken(text string) string {
	at := m.IntN(len(text) + 1)
	switch m.IntN(5) {
	case 0:
		return text[:at]
	case 1:
		return text[:at] + string([]byte{byte(m.IntN(256))}) + text[at:]
	case 2:
		return text + text
	case 3:
		return strings.Replace(text, ",", ",,", 1)
	default:
		return strings.Replace(text, "{", `{"a":1,"a":2,`, 1)
	}
}

// tree changes one place of a tree, most often deep in it.
func (m *Mutator) tree(tree any) any {
	switch v := tree.(type) {
	case map[string]any:
		return m.object(v)
	case []any:
		return m.list(v)
	case string:
		if m.IntN(3) > 0 {
			return m.Text(v)
		}
	}
	return m.value(tree)
}

func (m *Mutator) object(v map[string]any) any {
	names := make([]string, 0, len(v))
	for name := range v {
		names = append(names, name)
	}
	slices.Sort(names)
	choice := m.IntN(12)
	switch {
	case choice == 0:
		return m.value(v)
	case choice < 3 || len(names) == 0:
		v[m.name()] = m.value(nil)
	case choice == 3:
		delete(v, names[m.IntN(len(names))])
	case choice == 4:
		name := names[m.IntN(len(names))]
		v[m.Text(name)] = v[name]
	default:
		name := names[m.IntN(len(names))]
		v[name] = m.tree(v[name])
	}
	return v
}

func (m *Mutator) list(v []any) any {
	switch choice := m.IntN(8); {
	case choice == 0:
		return m.value(v)
	case choice == 1 || len(v) == 0:
		return append(v, m.value(nil))
	case choice == 2:
		return append(v, v[m.IntN(len(v))])
	case choice == 3:
		return slices.Repeat(v, 1+m.IntN(150))
	case choice == 4:
		at := m.IntN(len(v))
		return slices.Delete(v, at, at+1)
	default:
		at := m.IntN(len(v))
		v[at] = m.tree(v[at])
		return v
	}
}

var numbers = []json.Number{"0", "-0", "-1", "1", "0.5", "1e400", "-1e-400", "2147483647", "2147483648", "9223372036854775808", "1E5", "123456789012345678901234567890"}

// value is any JSON value: sometimes one around what stood there.
func (m *Mutator) value(of any) any {
	switch m.IntN(10) {
	case 0:
		return nil
	case 1:
		return m.IntN(2) == 0
	case 2:
		return numbers[m.IntN(len(numbers))]
	case 3:
		return []any{of}
	case 4:
		return map[string]any{m.name(): of}
	case 5:
		for range m.IntN(120) {
			of = []any{of}
		}
		return of
	case 6, 7:
		return m.word()
	default:
		return m.Text("x")
	}
}
