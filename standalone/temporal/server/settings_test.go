package server

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/server/common/dynamicconfig"

	"github.com/mathub/webhooks/standalone/temporal"
)

// TestNumbersSurviveTheWayToTheChild: JSON makes floats of them, and Temporal ignores a setting of another type in silence.
func TestNumbersSurviveTheWayToTheChild(t *testing.T) {
	t.Parallel()
	given := temporal.Settings{DynamicConfig: map[string]any{"history.hostLevelCacheMaxSize": 1234, "system.enableEagerWorkflowStart": false, "history.cacheTTL": "5s"}}
	encoded, err := json.Marshal(given)
	require.NoError(t, err)
	var settings temporal.Settings
	require.NoError(t, json.Unmarshal(encoded, &settings))
	collection := dynamicconfig.NewCollection(process{settings}.dynamicConfig(), nil)
	require.Equal(t, 1234, dynamicconfig.HistoryCacheHostLevelMaxSize.Get(collection)())
	require.Equal(t, "5s", dynamicconfig.HistoryCacheTTL.Get(collection)().String())
	require.Equal(t, 16<<20, dynamicconfig.EventsHostLevelCacheMaxSizeBytes.Get(collection)(), "what is not given stays")
}
