package worker_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/codec"
	"github.com/mathub/webhooks/webhook"
	"github.com/mathub/webhooks/workflows"
	"github.com/mathub/webhooks/workflows/temporaltest"
)

// TestTheScheduleIsSetThoughItsKeysAreGone, as where an operator ends the sealing, or has lost the keys: nothing else removes what is over age.
func TestTheScheduleIsSetThoughItsKeysAreGone(t *testing.T) {
	t.Parallel()
	c, namespace := temporaltest.NewNamespace(t)
	text, err := db.NewKeyset()
	require.NoError(t, err)
	sealing, err := codec.Parse(text)
	require.NoError(t, err)
	as := func(keys *codec.Codec) client.Client {
		other, err := client.NewClientFromExistingWithContext(t.Context(), c, client.Options{Namespace: namespace, DataConverter: keys.Converter()})
		require.NoError(t, err)
		return other
	}
	clear := as(nil)
	for _, set := range []client.Client{as(sealing), clear} {
		require.NoError(t, workflows.ScheduleRemoval(t.Context(), set, webhook.DefaultRetention))
	}
	described, err := clear.ScheduleClient().GetHandle(t.Context(), workflows.RetentionSchedule).Describe(t.Context())
	require.NoError(t, err, "it is readable")
	require.Equal(t, time.Hour, described.Schedule.Spec.Intervals[0].Every)
}
