package docs_test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/docs"
)

var (
	fences  = regexp.MustCompile("(?ms)^```.*?^```$")
	code    = regexp.MustCompile("`[^`\n]*`")
	links   = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	// Tests by their whole names: one that is cut short, such as TestTheAPIIsKilledBetween…, is not looked up.
	testNamed    = regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	testDeclared = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
	linked       = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// TestLinksLeadSomewhere looks up every relative link and anchor of the docs.
func TestLinksLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	require.NoError(t, err)
	decisions, err := filepath.Glob("decisions/*.md")
	require.NoError(t, err)
	pages = append(append(pages, decisions...), "../README.md", "../CHANGELOG.md", "../CONTRIBUTING.md", "../SECURITY.md")
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

// anchors are those of a page's headings.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fences.ReplaceAllString(page, ""), -1) {
		text := linked.ReplaceAllString(m[1], "$1")
		found[docs.Anchor(text)] = true
	}
	return found
}

// TestTestsThatAreNamedExist: a claim that names its test has one.
func TestTestsThatAreNamedExist(t *testing.T) {
	declared := map[string]bool{}
	require.NoError(t, filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, m := range testDeclared.FindAllStringSubmatch(read(t, path), -1) {
			declared[m[1]] = true
		}
		return nil
	}))
	pages, err := filepath.Glob("*.md")
	require.NoError(t, err)
	decisions, err := filepath.Glob("decisions/*.md")
	require.NoError(t, err)
	seen := 0
	for _, page := range append(append(pages, decisions...), "../README.md", "../CONTRIBUTING.md") {
		for _, m := range testNamed.FindAllStringSubmatch(read(t, page), -1) {
			seen++
			assert.True(t, declared[m[1]], "%s: there is no test %s", page, m[1])
		}
	}
	require.Greater(t, seen, 100)
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

// TestBlocksForAShellHaveNoComments: a zsh that someone types into takes "# why" as words, and an apostrophe in it as a quote.
func TestBlocksForAShellHaveNoComments(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	require.NoError(t, err)
	shell := regexp.MustCompile("(?ms)^```sh$(.*?)^```$")
	quoted := regexp.MustCompile(`(?s)'[^']*'|"[^"]*"`)
	found := 0
	for _, page := range append(pages, "../README.md", "../CONTRIBUTING.md") {
		for _, block := range shell.FindAllStringSubmatch(read(t, page), -1) {
			found++
			require.NotRegexp(t, `(?m)(^|\s)#`, quoted.ReplaceAllString(block[1], "quoted"), page)
		}
	}
	require.NotZero(t, found)
}
