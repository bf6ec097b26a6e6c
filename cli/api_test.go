package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAPIFlags_Validate(t *testing.T) {
	t.Parallel()
	for address, ok := range map[string]bool{
		"http://127.0.0.1:8080": true, "https://hooks.example/prefix/": true,
		"127.0.0.1:8080": false, "localhost:8080": false, "": false, "ftp://hooks.example": false, "https://": false, "http://hooks.example/?x=1": false, "http://hooks.example/?": false, "http://hooks.example/#x": false,
	} {
		require.Equal(t, ok, APIFlags{API: address}.Validate() == nil, address)
	}
}
