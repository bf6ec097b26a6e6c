package server

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/server/common/dynamicconfig"
	"gopkg.in/yaml.v3"
)

// TestComposeRunsTemporalWithTheSameSettings: what the tests of this module prove of Temporal's settings holds for
// docker-compose.yml as well.
func TestComposeRunsTemporalWithTheSameSettings(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../../docker-compose.yml")
	require.NoError(t, err)
	var compose struct {
		Services map[string]struct {
			Configs []struct{ Source, Target string }
			// Environment is a mapping there; a list would not parse.
			Environment map[string]string
		}
		Configs map[string]struct{ Content string }
	}
	require.NoError(t, yaml.Unmarshal(raw, &compose))
	server := compose.Services["temporal"]
	require.Len(t, server.Configs, 1)
	require.Equal(t, server.Configs[0].Target, server.Environment["DYNAMIC_CONFIG_FILE_PATH"])
	for name, value := range (process{}).Collector() {
		require.Equal(t, value, server.Environment[name], name)
	}
	loaded := dynamicconfig.LoadYamlFile([]byte(compose.Configs[server.Configs[0].Source].Content))
	require.NoError(t, loaded.Err())
	require.Empty(t, loaded.Warnings)

	wanted := process{}.dynamicConfig()
	require.Len(t, loaded.Map, len(wanted))
	for key, value := range wanted {
		constrained, ok := value.([]dynamicconfig.ConstrainedValue)
		if !ok {
			constrained = []dynamicconfig.ConstrainedValue{{Value: value}}
		}
		require.Equal(t, constrained, loaded.Map[key], key)
	}
}
