package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestTypesAreCurrent(t *testing.T) {
	for name, file := range map[string]string{"mathub": "../events_gen.go", "emit": "../../../emit/events_gen.go"} {
		written, err := os.ReadFile(file)
		require.NoError(t, err)
		drawn, err := writers[name](webhook.Catalog())
		require.NoError(t, err)
		require.Equal(t, string(drawn), string(written), "run make generate")
	}
}
