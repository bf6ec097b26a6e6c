// Package docs is the documentation, and what proves that it is current.
package docs

import (
	"embed"
	"strings"
	"unicode"
)

//go:generate go run ./internal/geneventsdoc events.md

// Pages are the pages and their images; README.md is the index. The API serves those for bot developers, see api/docs.go.
//
//go:embed *.md images/*.png
var Pages embed.FS

// Anchor is the id that Git hosts give a heading, which the pages' links hold to: in lower case, with hyphens for spaces, and
// with nothing but letters, digits, hyphens and underscores.
func Anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}
