package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestGeneratedIsCurrent: the sources are those of the catalog and of the document as they are now.
func TestGeneratedIsCurrent(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, generate("../../../api/openapi.yaml", dir))
	for _, name := range []string{"catalog.ts", "bot_api.ts"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		got, err := os.ReadFile(filepath.Join("..", "src", name))
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "%s is out of date: run make generate", name)
		require.NotContains(t, string(got), "<nil>", "a schema without a type")
	}
}

func TestTypeOfExample(t *testing.T) {
	for example, want := range map[string]string{
		`"a"`: "string", `1`: "number", `true`: "boolean",
		`{"b":{"c":1},"a":"x"}`: `{ b: { c: number }; a: string }`,
	} {
		got, err := typeOfExample(json.RawMessage(example))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, example := range []string{`null`, `[1]`, ``, `{"a":null}`} {
		_, err := typeOfExample(json.RawMessage(example))
		require.Error(t, err, example)
	}
}
