package cluster

import (
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/mathub/webhooks/standalone/hosts"
)

// TestSettingsAreComposes: what the tests of a cluster show holds for what docs/deploying.md describes.
func TestSettingsAreComposes(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docker-compose.yml")
	require.NoError(t, err)
	var compose struct {
		Services map[string]struct {
			Environment map[string]string
			Command     []string
		}
	}
	require.NoError(t, yaml.Unmarshal(raw, &compose))

	at := func(address netip.Addr) *Node { return &Node{Host: &hosts.Host{Address: address}} }
	c := &Cluster{Balancer: at(balancer), servers: [2]*Server{{Node: at(address(postgresHosts, 1))}, {Node: at(address(postgresHosts, 2))}}}
	// These name other hosts than Compose's, or hold what each installation makes for itself.
	own := map[string]bool{
		"MATHUB_DATABASE_URL": true, "MATHUB_KEYSET": true, "MATHUB_CODEC_KEYSET": true, "MATHUB_SERVICE_TOKEN": true, "TEMPORAL_ADDRESS": true,
		"MATHUB_PUBLIC_URL": true, "MATHUB_TEMPORAL_UI": true, "MATHUB_EGRESS_DENY": true,
	}
	for _, subcommand := range []string{"api", "worker"} {
		given := map[string]string{}
		for _, variable := range c.Environment(subcommand) {
			name, value, _ := strings.Cut(variable, "=")
			given[name] = value
		}
		wanted := compose.Services[subcommand].Environment
		require.NotEmpty(t, wanted)
		for name, value := range wanted {
			if !own[name] { // a variable that is not set is an empty one
				value = strings.TrimSuffix(strings.TrimPrefix(value, "${"+name+":-"), "}") // Compose's default
				require.Equal(t, value, given[name], "%s of %s", name, subcommand)
			}
		}
	}
	given := []string{"postgres"}
	for _, name := range slices.Sorted(maps.Keys(serverSettings)) {
		given = append(given, "-c", name+"="+serverSettings[name])
	}
	require.ElementsMatch(t, compose.Services["postgres"].Command, given)

	shards, err := strconv.Atoi(compose.Services["temporal"].Environment["NUM_HISTORY_SHARDS"])
	require.NoError(t, err)
	require.Equal(t, int32(shards), Usual.HistoryShards)
}

func TestLayoutIsChecked(t *testing.T) {
	t.Parallel()
	require.NoError(t, Usual.check())
	for message, change := range map[string]func(*Layout){
		"apis: a cluster has 1 to 10 of them, not 0":       func(l *Layout) { l.APIs = 0 },
		"workers: a cluster has 1 to 10 of them, not 11":   func(l *Layout) { l.Workers = 11 },
		"histories: a cluster has 1 to 10 of them, not -1": func(l *Layout) { l.Histories = -1 },
		"history-shards: 1 to 16384, not 0":                func(l *Layout) { l.HistoryShards = 0 },
	} {
		layout := Usual
		change(&layout)
		require.EqualError(t, layout.check(), message)
	}
}
