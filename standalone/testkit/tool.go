package testkit

import (
	"os"
	"path/filepath"
	"testing"
)

// Tool is a program that tests need beside the product, such as "python3", which has Flask. make test-deps has found or
// installed it: what PATH leads to may be another.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(toolsFolder(t), name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not there for the tests: run make test-deps", name)
	}
	return path
}

// ToolsPath is a PATH that leads to the tools first.
func ToolsPath(t testing.TB) string {
	t.Helper()
	return toolsFolder(t) + string(os.PathListSeparator) + os.Getenv("PATH")
}

func toolsFolder(t testing.TB) string {
	t.Helper()
	return filepath.Join(Root(t), "bin", "tools")
}
