package e2e_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

// TestGoPackage uses the Go client in a fresh module, and runs what its page shows as it stands there.
func TestGoPackage(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{})
	bot := stack.API().CreateBot(t, "go")
	tm := openTerminal(t, stack, bot)
	tm.env = append(tm.env, "MATHUB_SECRET="+examplesSecret, "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off", "GOSUMDB=off")
	dir, source := t.TempDir(), testkit.Root(t)
	golang := func(args ...string) string {
		t.Helper()
		return tm.output(t, "go", append([]string{"-C", dir}, args...)...)
	}
	golang("mod", "init", "example.org/bot")
	golang("mod", "edit", "-replace", "github.com/mathub/webhooks="+source)
	ports := map[string]int{}
	found := blocks(t, "clients/go/README.md")
	for _, b := range found {
		port, err := freeport.Find()
		require.NoError(t, err)
		ports[b.name] = port
		folder := filepath.Join(dir, strings.TrimSuffix(b.name, ", receives"))
		require.NoError(t, os.Mkdir(folder, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(folder, "main.go"), []byte(strings.ReplaceAll(b.text, "9000", strconv.Itoa(port))), 0o600))
	}
	golang("mod", "tidy") // go get looks in the registry for a module at each folder
	golang("build", "-o", filepath.Join(dir, "bin")+"/", "./...")
	t.Run("it brings little with it", func(t *testing.T) {
		modules := golang("list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", "./...")
		require.ElementsMatch(t, []string{"github.com/mathub/webhooks", "github.com/oapi-codegen/nullable"}, unique(strings.Fields(modules)))
		for imported := range strings.FieldsSeq(golang("list", "-deps", "./...")) {
			inside, ours := strings.CutPrefix(imported, "github.com/mathub/webhooks/")
			require.True(t, !ours || inside == "clients/go", imported)
		}
	})
	for _, b := range found {
		name, receives := strings.CutSuffix(b.name, ", receives")
		t.Run("README "+name, func(t *testing.T) {
			if receives {
				pageReceives(t, stack, tm, ports[b.name], filepath.Join(dir, "bin", name))
				return
			}
			pagePrints(t, bot, tm, b, filepath.Join(dir, "bin", name))
		})
	}
}

func unique(words []string) (once []string) {
	seen := map[string]bool{}
	for _, word := range words {
		if !seen[word] {
			once = append(once, word)
		}
		seen[word] = true
	}
	return once
}
