package subscriptions

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/db"
)

// TestAuditFields: values, as the log and the database have them.
func TestAuditFields(t *testing.T) {
	t.Parallel()
	name := "Production"
	require.Equal(t, "Production", auditFields(db.Webhook{Name: &name})["name"])
	require.Nil(t, auditFields(db.Webhook{})["name"])
}
