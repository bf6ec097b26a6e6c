package docs_test

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

var (
	fences  = regexp.MustCompile("(?ms)^```.*?^```$")
	code    = regexp.MustCompile("`[^`\n]*`")
	links   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	linked  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// TestLinksLeadSomewhere looks up every relative link and anchor of the docs.
func TestLinksLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	require.NoError(t, err)
	pages = append(pages, "../README.md", "../CHANGELOG.md")
	seen := 0
	for _, page := range pages {
		text := fences.ReplaceAllString(read(t, page), "")
		for _, m := range links.FindAllStringSubmatch(code.ReplaceAllString(text, "code"), -1) {
			target, err := url.Parse(m[1])
			if err != nil {
				t.Errorf("%s: %s: %v", page, m[1], err)
				continue
			}
			if target.Scheme != "" {
				continue
			}
			seen++
			if fault := follow(t, page, target); fault != "" {
				t.Errorf("%s: the link %s: %s", page, m[1], fault)
			}
		}
	}
	require.Greater(t, seen, 50)
}

// follow says what is wrong with a link of a page, or nothing.
func follow(t *testing.T, page string, target *url.URL) string {
	file := page
	if target.Path != "" {
		file = filepath.Join(filepath.Dir(page), target.Path)
	}
	if _, err := os.Stat(file); err != nil {
		return "there is no such file"
	}
	if target.Fragment != "" && !anchors(read(t, file))[target.Fragment] {
		return "there is no such heading"
	}
	return ""
}

// anchors are those that Git hosts give a page's headings: in lower case, with hyphens for spaces, and with nothing but
// letters, digits, hyphens and underscores.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fences.ReplaceAllString(page, ""), -1) {
		text := linked.ReplaceAllString(m[1], "$1")
		found[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, text)] = true
	}
	return found
}

// TestEveryPageIsInTheIndex: docs/README.md leads to each page.
func TestEveryPageIsInTheIndex(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	require.NoError(t, err)
	index := read(t, "README.md")
	for _, page := range pages {
		if page != "README.md" {
			require.Contains(t, index, "("+page+")")
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(raw)
}
