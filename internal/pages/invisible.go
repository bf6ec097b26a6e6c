package pages

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// invisible are the characters that show nothing, or turn what is around them: a text of somebody else's must not look like
// another. A variation selector or a joiner may belong to the sign before it.
var invisible = []*unicode.RangeTable{
	unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector,
}

// isInvisible says whether r, between two others, is to be marked.
func isInvisible(before, r, after rune) bool {
	switch {
	case r < utf8.RuneSelf && unicode.IsPrint(r), r == '\t', r == '\n', r == '\r':
		return false
	case r == '\u200c' || r == '\u200d': // as in Persian words and in emoji
		return before < utf8.RuneSelf || after < utf8.RuneSelf
	case r == '\ufe0e' || r == '\ufe0f':
		return before <= ' ' || before < utf8.RuneSelf && unicode.IsLetter(before)
	}
	return unicode.In(r, invisible...)
}

// markInvisible puts marks such as ⟨U+202E⟩ in the place of a page's invisible characters, wherever they come from. In a pre,
// a mark tells the module what to copy. Attributes and the text of a textarea stay as they are: who sends a field back must not
// send marks. page comes from html/template, so that it has no < or > but those of tags.
func markInvisible(page []byte) []byte {
	if !bytes.ContainsFunc(page, func(r rune) bool { return isInvisible(0, r, 0) }) {
		return page
	}
	marked := make([]byte, 0, len(page)+len(page)/8)
	var inTag, inPre, inField bool
	before := rune(0)
	for i := 0; i < len(page); {
		r, size := utf8.DecodeRune(page[i:])
		rest := page[i+size:]
		switch after, _ := utf8.DecodeRune(rest); {
		case r == '<':
			inTag = true
			inPre = bytes.HasPrefix(rest, []byte("pre")) || inPre && !bytes.HasPrefix(rest, []byte("/pre>"))
			inField = bytes.HasPrefix(rest, []byte("textarea")) || inField && !bytes.HasPrefix(rest, []byte("/textarea>"))
		case r == '>':
			inTag = false
		case !inTag && !inField && isInvisible(before, r, after):
			mark := fmt.Sprintf("⟨U+%04X⟩", r)
			if inPre {
				mark = fmt.Sprintf(`<span class="odd" data-char="%d">%s</span>`, r, mark)
			}
			marked = append(marked, mark...)
			before, i = r, i+size
			continue
		}
		marked = append(marked, page[i:i+size]...)
		before, i = r, i+size
	}
	return marked
}
