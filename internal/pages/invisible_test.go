package pages

import (
	"html/template"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMarkInvisible: what shows nothing, or turns the text around it, is marked wherever a page has it; what belongs to a
// sign or to a word stays.
func TestMarkInvisible(t *testing.T) {
	t.Parallel()
	page := template.Must(template.New("").Parse(`<p title="{{.}}">{{.}}</p><pre tabindex="0"><code>{{.}}</code></pre><select><option value="{{.}}">{{.}}</option></select><textarea rows="2">{{.}}</textarea>`))
	for text, want := range map[string]string{
		"plain\ttext\r\nof two lines <b>": "", "naïve שלום مرحبا 中文": "", "❤️ 1️⃣ 👨‍👩‍👧 می\u200cخواهم": "", "\u00a0 \u3000": "",
		"gnp\u202eexe": "gnp⟨U+202E⟩exe", "\u2066a\u2069": "⟨U+2066⟩a⟨U+2069⟩", "a\u200bb": "a⟨U+200B⟩b", "a\u200db": "a⟨U+200D⟩b", "\ufeff{}": "⟨U+FEFF⟩{}", "so\u00adft": "so⟨U+00AD⟩ft",
		"\u200f": "⟨U+200F⟩", "\u061c": "⟨U+061C⟩", "\u2028": "⟨U+2028⟩", "\x1b[2J": "⟨U+001B⟩[2J", "\u009b": "⟨U+009B⟩", "\x7f": "⟨U+007F⟩", "\u3164": "⟨U+3164⟩", "\u034f": "⟨U+034F⟩",
		"a\U000e0041": "a⟨U+E0041⟩", "a\U000e0100": "a⟨U+E0100⟩", "x\ufe0f": "x⟨U+FE0F⟩", "\u206a": "⟨U+206A⟩",
	} {
		var out strings.Builder
		require.NoError(t, page.Execute(&out, text))
		marked := string(markInvisible([]byte(out.String())))
		if want == "" {
			require.Equal(t, out.String(), marked)
			continue
		}
		start, end := strings.Index(marked, `">`)+2, strings.Index(marked, "</p>")
		require.Equal(t, template.HTMLEscapeString(want), marked[start:end], "%q", text)
		_, shown, _ := strings.Cut(marked, "<code>")
		shown, rest, _ := strings.Cut(shown, "</code>")
		require.Contains(t, shown, `<span class="odd" data-char="`)
		require.Contains(t, rest, ">"+template.HTMLEscapeString(want)+"</option>", "an option has no elements in it")
		require.Contains(t, rest, `value="`+template.HTMLEscapeString(text)+`"`, "a form sends what it was given")
		require.Contains(t, rest, `<textarea rows="2">`+template.HTMLEscapeString(text)+`</textarea>`, "this too")
	}
}
