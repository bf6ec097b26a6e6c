package main

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

func TestGeneratedIsCurrent(t *testing.T) {
	got, err := os.ReadFile("../mathub_webhooks/catalog.py")
	require.NoError(t, err)
	require.Equal(t, types(webhook.Catalog()), string(got), "run make generate")
}
