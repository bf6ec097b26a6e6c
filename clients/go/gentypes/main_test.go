package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestTypesAreCurrent(t *testing.T) {
	written, err := os.ReadFile("../events_gen.go")
	require.NoError(t, err)
	drawn, err := types(webhook.Catalog())
	require.NoError(t, err)
	require.Equal(t, string(drawn), string(written), "run make generate")
}
