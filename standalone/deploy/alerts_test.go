package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

const prometheusFolder = "../../deploy/prometheus"

// promtool runs a subcommand on a copy of the folder, after change, if any.
func promtool(t *testing.T, change func(rules string) string, args ...string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(prometheusFolder)))
	if change != nil {
		path := filepath.Join(dir, "alerts.yml")
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		after := change(string(before))
		require.NotEqual(t, string(before), after)
		require.NoError(t, os.WriteFile(path, []byte(after), 0o600))
	}
	cmd := exec.CommandContext(t.Context(), testkit.Tool(t, "promtool"), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestAlertRules runs the rules' unit tests: each alert fires for what it is for, within a minute where it pages, and none
// for one bot's outage.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"check", "config", "prometheus.yml"}, {"test", "rules", "alerts_test.yml"}} {
		out, err := promtool(t, nil, args...)
		require.NoError(t, err, out)
	}
}

// TestEveryAlertHasAUnitTest in which it fires; and what any of them should not tell of makes a unit test fail.
func TestEveryAlertHasAUnitTest(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile(filepath.Join(prometheusFolder, "alerts.yml"))
	require.NoError(t, err)
	tests, err := os.ReadFile(filepath.Join(prometheusFolder, "alerts_test.yml"))
	require.NoError(t, err)
	alerts := regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	require.Greater(t, len(alerts), 10)
	for _, alert := range alerts {
		require.Regexp(t, `exp_samples: \[\{labels: '\{alertname="`+alert[1]+`"`, string(tests))
	}
	out, err := promtool(t, func(rules string) string {
		return rules + "      - alert: MathubManyDisabled\n        expr: sum(increase(mathub_webhooks_disabled_total[1h])) > 20\n"
	}, "test", "rules", "alerts_test.yml")
	require.Error(t, err, out)
	require.Contains(t, out, "MathubManyDisabled", "one bot disables as many")
}
