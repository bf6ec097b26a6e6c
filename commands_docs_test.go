package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	fenced     = regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$")
	quoted     = regexp.MustCompile(`"[^"]*"|'[^']*'`)
	invocation = regexp.MustCompile("mathub-webhooks ((?:[a-z]|--)[^|;&<>)`\n]*)")
	plainText  = strings.NewReplacer("\\\n", " ", `\|`, "|", "[", "", "]", "")
)

// TestTheDocsCommandsParse: whoever types at night what the docs say has typed a command.
func TestTheDocsCommandsParse(t *testing.T) {
	for name, value := range map[string]string{
		"MATHUB_API": "http://127.0.0.1:8080", "MATHUB_SERVICE_TOKEN": "token", "MATHUB_BOT_KEY": "bot_key", "MATHUB_DATABASE_URL": "postgres://127.0.0.1/x",
		"MATHUB_KEYSET": "keyset",
	} {
		t.Setenv(name, value)
	}
	pages, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	seen := 0
	for _, page := range append(pages, "README.md", "deploy/prometheus/alerts.yml") {
		read, err := os.ReadFile(page)
		require.NoError(t, err)
		blocks := ""
		for _, m := range fenced.FindAllStringSubmatch(string(read), -1) {
			blocks += m[1]
		}
		for text, whole := range map[string]bool{blocks: true, strings.Join(inline(string(read)), "\n"): false} {
			for _, line := range strings.Split(quoted.ReplaceAllString(plainText.Replace(text), "text"), "\n") {
				if strings.HasPrefix(line, "kubectl") { // it has a namespace of that name
					continue
				}
				for _, m := range invocation.FindAllStringSubmatch(line, -1) {
					seen++
					var c commands
					_, err := kong.Must(&c, flagDefaults(), kong.BindToProvider(program)).Parse(strings.Fields(m[1]))
					if !whole && err != nil && strings.HasPrefix(err.Error(), "expected ") {
						continue // prose names a command by its first words
					}
					assert.NoError(t, err, "%s: %s", page, line)
				}
			}
		}
	}
	require.Greater(t, seen, 100)
}

// inline is what stands in a page's text as code.
func inline(page string) (code []string) {
	for _, m := range regexp.MustCompile("`(mathub-webhooks [^`\n]+)`").FindAllStringSubmatch(fenced.ReplaceAllString(page, ""), -1) {
		code = append(code, m[1])
	}
	return code
}
