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

// TestPythonPackage builds the wheel, installs it in a fresh environment without an index, and runs what its page shows as it stands
// there.
func TestPythonPackage(t *testing.T) {
	t.Parallel()
	stack := testkit.Start(t, testkit.Options{})
	bot := stack.API().CreateBot(t, "python")
	tm := openTerminal(t, stack, bot)
	dir, source := t.TempDir(), filepath.Join(testkit.Root(t), "clients", "python")
	python, system := filepath.Join(dir, "venv", "bin", "python3"), testkit.Tool(t, "python3")
	tm.output(t, system, "-m", "venv", filepath.Join(dir, "venv"))
	offline := []string{"--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--quiet"}
	tm.output(t, python, append([]string{"-m", "pip", "wheel", "--wheel-dir", dir, source}, offline...)...)
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	require.NoError(t, err)
	require.Len(t, wheels, 1)
	tm.output(t, python, append([]string{"-m", "pip", "install", wheels[0]}, offline...)...)
	tm.output(t, python, "-m", "pip", "check", "--disable-pip-version-check")
	flask := tm.output(t, system, "-c", "import flask, os; print(os.path.dirname(os.path.dirname(flask.__file__)))")
	tm.env = append(tm.env, "MATHUB_SECRET="+examplesSecret, "PYTHONDONTWRITEBYTECODE=1")

	t.Run("its own tests", func(t *testing.T) { tm.output(t, python, filepath.Join(source, "tests", "test_package.py")) })
	for _, b := range blocks(t, "clients/python/README.md") {
		name, receives := strings.CutSuffix(b.name, ", receives")
		t.Run("README "+name, func(t *testing.T) {
			port, err := freeport.Find()
			require.NoError(t, err)
			program := filepath.Join(t.TempDir(), "program.py")
			require.NoError(t, os.WriteFile(program, []byte(strings.ReplaceAll(b.text, "9000", strconv.Itoa(port))), 0o600))
			its := &terminal{env: tm.env}
			if name == "flask" { // what the page asks to install beside it
				its.env = append(its.env[:len(its.env):len(its.env)], "PYTHONPATH="+flask)
			}
			if receives {
				pageReceives(t, stack, its, port, python, program)
				return
			}
			pagePrints(t, bot, its, b, python, program)
		})
	}
}
