package portal_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

// getRoutes are the patterns of all of the portal's pages, read from its source.
func getRoutes(t *testing.T) (patterns []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testkit.Root(t), "portal", "*.go"))
	require.NoError(t, err)
	constants := map[string]string{}
	var sources []string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		sources = append(sources, string(raw))
		for _, m := range regexp.MustCompile(`(?m)^\s*(?:const )?(\w+)\s+= "(/portal/[^"]*)"`).FindAllStringSubmatch(string(raw), -1) {
			constants[m[1]] = m[2]
		}
	}
	for _, source := range sources {
		for _, m := range regexp.MustCompile(`p\.get\(([^,]+),`).FindAllStringSubmatch(source, -1) {
			pattern := regexp.MustCompile(`\w+`).ReplaceAllStringFunc(m[1], func(word string) string {
				if path, known := constants[word]; known && !strings.Contains(m[1], `"`+word) {
					return path
				}
				return word
			})
			pattern = strings.NewReplacer(`"`, "", " + ", "").Replace(pattern)
			if pattern == "pattern string" || strings.Contains(pattern, "/static/") {
				continue
			}
			patterns = append(patterns, pattern)
		}
	}
	require.Greater(t, len(patterns), 3)
	return patterns
}

// TestEveryPage: axe-core finds nothing on any, light and dark, and none is scrolled sideways; each works for both roles,
// with JavaScript and without; no payload is more than text.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ok, bad, event := s.fill()
	s.bot.Emit(t, testkit.Event{Type: "post.created", Data: []byte(`{"postId":"` + strings.Repeat("0123456789abcdef", 16<<10-100) + `"}`)})
	failed := s.bot.AwaitDeliveries(t, bad.ID, 1)[0]
	_ = ok
	var pages []string
	for _, pattern := range getRoutes(t) {
		path := strings.NewReplacer("{$}", "", "{id}", bad.ID, "{deliveryID}", failed.ID, "{eventID}", event).Replace(pattern)
		require.NotContains(t, path, "{", "what stands for it?")
		pages = append(pages, path)
	}
	for name, o := range map[string]tabOptions{"script": {}, "no script": {NoScript: true}} {
		for _, role := range []string{"manage", "view"} {
			t.Run(role+", "+name, func(t *testing.T) {
				b := s.signedIn(t, role, o)
				for _, path := range pages {
					b.Go(path)
					title := b.Text("h1")
					if path != "/portal/" {
						require.NotContains(t, []string{"Not Found", "Internal Server Error"}, title, path)
					}
					require.NotEqual(t, "owned", do(b, chromedp.Title()), path)
					if o.NoScript {
						continue
					}
					if role == "view" {
						actions := eval[[]string](b, `[...document.querySelectorAll("form[method=post]")].map(f => new URL(f.action).pathname).filter(p => p !== "/portal/theme" && p !== "/portal/sign-out" && p !== "/portal/session")`)
						require.Empty(t, actions, "%s: a viewer has no buttons", path)
						continue
					}
					b.Check(path)
				}
			})
		}
	}
}
