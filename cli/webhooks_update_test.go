package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHeadersOf: a header is named once, so that no value is lost silently.
func TestHeadersOf(t *testing.T) {
	t.Parallel()
	headers, err := headersOf([]string{"X-A: 1"}, []string{"X-B"})
	require.NoError(t, err)
	require.Equal(t, "1", *headers["X-A"])
	require.Contains(t, headers, "X-B")
	_, err = headersOf([]string{"X-A: 1", "X-A:2"}, nil)
	require.ErrorContains(t, err, "X-A twice")
	_, err = headersOf([]string{"X-A: 1"}, []string{"X-A"})
	require.ErrorContains(t, err, "--remove-header removes")
	_, err = headersOf([]string{"X-A"}, nil)
	require.ErrorContains(t, err, "Name: value")
}
