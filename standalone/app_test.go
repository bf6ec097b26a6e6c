package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestDenyPorts: what runs beside the product is denied whatever the user denies.
func TestDenyPorts(t *testing.T) {
	require.Equal(t, []string{"A=b", "MATHUB_EGRESS_DENY=:8233,:20001"}, denyPorts([]string{"A=b"}, []int{8233, 20001}))
	require.Equal(t, []string{"MATHUB_EGRESS_DENY=api:1", "MATHUB_EGRESS_DENY=api:1,:8233"}, denyPorts([]string{"MATHUB_EGRESS_DENY=api:1"}, []int{8233}))
}
