package docs_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/webhook"
)

// TestTargetedTypesAreNamed: where a text lists the types that require an audience, it lists all of the catalog's.
func TestTargetedTypesAreNamed(t *testing.T) {
	var types []string
	for _, spec := range webhook.Catalog() {
		if spec.Audience == webhook.Targeted {
			types = append(types, string(spec.Type))
		}
	}
	last := len(types) - 1
	list := strings.Join(types[:last], ", ") + " and " + types[last]
	for _, page := range []string{"emitting.md", "../api/openapi.yaml", "../cli/trigger.go", "../clients/go/emit.go"} {
		require.Contains(t, strings.ReplaceAll(read(t, page), "`", ""), list, page)
	}
}
