package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

// djangoProject serves the module urls, as a project's wsgi.py does.
const djangoProject = `
import wsgiref.simple_server

from django.conf import settings
from django.core.wsgi import get_wsgi_application

settings.configure(ROOT_URLCONF="urls", SECRET_KEY="s", ALLOWED_HOSTS=["127.0.0.1"], MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"])
wsgiref.simple_server.make_server("127.0.0.1", %d, get_wsgi_application()).serve_forever()
`

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
	frameworks := tm.output(t, system, "-c", `import os, flask, fastapi, django
print(os.pathsep.join(sorted({os.path.dirname(os.path.dirname(m.__file__)) for m in (flask, fastapi, django)})))`)
	tm.env = append(tm.env, "MATHUB_SECRET="+examplesSecret, "PYTHONDONTWRITEBYTECODE=1")

	t.Run("its own tests", func(t *testing.T) { tm.output(t, python, filepath.Join(source, "tests", "test_package.py")) })
	t.Run("tests of its helpers", func(t *testing.T) {
		beside := &terminal{env: append(tm.env[:len(tm.env):len(tm.env)], "PYTHONPATH="+frameworks)}
		beside.output(t, python, filepath.Join(source, "tests", "test_frameworks.py"))
	})
	for _, b := range blocks(t, "clients/python/README.md") {
		name, receives := strings.CutSuffix(b.name, ", receives")
		t.Run("README "+name, func(t *testing.T) {
			port, err := freeport.Find()
			require.NoError(t, err)
			program := filepath.Join(t.TempDir(), "program.py")
			require.NoError(t, os.WriteFile(program, []byte(strings.ReplaceAll(b.text, "9000", strconv.Itoa(port))), 0o600))
			its := &terminal{env: tm.env}
			if slices.Contains([]string{"flask", "fastapi", "django"}, name) { // what the page asks to install beside it
				its.env = append(its.env[:len(its.env):len(its.env)], "PYTHONPATH="+frameworks)
			}
			if name == "django" { // its block is the module urls of a project
				require.NoError(t, os.Rename(program, filepath.Join(filepath.Dir(program), "urls.py")))
				require.NoError(t, os.WriteFile(program, []byte(fmt.Sprintf(djangoProject, port)), 0o600))
			}
			if receives {
				pageReceives(t, stack, its, port, python, program)
				return
			}
			pagePrints(t, bot, its, b, python, program)
		})
	}
}
