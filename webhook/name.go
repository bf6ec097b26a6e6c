package webhook

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// joiners are of no width, and are part of how some scripts and emoji are written.
const joiners = "\u200c\u200d"

// invisible says that a character shows nothing, or acts: control and format characters, fillers, and braille's blank.
func invisible(r rune) bool {
	return r == '\u2800' || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point)
}

// unseen are characters that nobody sees: white space, and invisible ones.
func unseen(r rune) bool { return unicode.IsSpace(r) || invisible(r) }

// CheckName checks a name that people give: at most so many characters, as the API's document counts, none of which is
// invisible. In a terminal or a list, those would act, show nothing, or turn around the text that the name stands in. Only
// joiners may stand between other characters. The error is an *InvalidError on the field.
func CheckName(field, name string, most int) error {
	clean := strings.Trim(name, joiners) == name && !strings.ContainsFunc(name, func(r rune) bool {
		return invisible(r) && !strings.ContainsRune(joiners, r)
	})
	switch {
	case !utf8.ValidString(name) || !clean:
		return invalid(field, "must have no control characters and no invisible ones")
	case strings.TrimSpace(name) == "":
		return invalid(field, fmt.Sprintf("must have 1 to %d characters, not only spaces", most))
	case utf8.RuneCountInString(name) > most:
		return invalid(field, fmt.Sprintf("must have at most %d characters", most))
	}
	return nil
}

// CheckOptionalName is CheckName where "" is for no name.
func CheckOptionalName(field, name string, most int) error {
	if name == "" {
		return nil
	}
	return CheckName(field, name, most)
}
