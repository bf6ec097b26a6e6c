package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/testkit"
)

var (
	familyLine = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
	sampleLine = regexp.MustCompile(`(?m)^([a-z]\w*)(?:\{(.*)\})? \S+$`)
	labelPair  = regexp.MustCompile(`(\w+)="`)
	tableRow   = regexp.MustCompile("(?m)^\\| `(mathub_\\w+)` \\| (\\w+) \\| ([^|]*) \\| ([^|]*) \\|$")
	metricName = regexp.MustCompile(`\b(?:mathub|temporal|go|process)_\w+`)
	matcher    = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
	grouping   = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// TestDocsDashboardAndAlertsNameWhatExists produces each kind of traffic and holds what /metrics then has against the
// table in docs/observability.md, both ways, and against what dashboard and alert rules name.
func TestDocsDashboardAndAlertsNameWhatExists(t *testing.T) {
	t.Parallel()
	port, err := freeport.Find()
	require.NoError(t, err)
	admin := fmt.Sprintf("127.0.0.1:%d", port)
	stack := testkit.Start(t, testkit.Options{Env: map[string]string{"MATHUB_ADMIN_ADDR": admin, "MATHUB_RETRY_SCHEDULE": "1h"}})
	receiver := testkit.NewReceiver(t)
	receiver.Answer("/failing", testkit.Status(http.StatusInternalServerError))
	bot := stack.API().CreateBot(t, "measured")
	bot.CreateWebhook(t, receiver.URL("/ok"), "", post)
	failing := bot.CreateWebhook(t, receiver.URL("/failing"), "", post)
	refused := bot.CreateWebhook(t, "http://"+admin+"/", "", post)
	first := bot.Emit(t, testkit.Event{Type: post})
	require.True(t, bot.Emit(t, testkit.Event{ID: first.ID, Type: post}).Duplicate)
	require.NoError(t, startEvent(t, stack, first.ID, map[string]any{"id": first.ID, "event": post, "data": map[string]any{}}).Get(t.Context(), nil))
	bot.AwaitDeliveries(t, refused.ID, 1)
	for bot.Webhook(t, failing.ID).IsActive {
		bot.Test(t, failing.ID)
	}

	metrics := map[string]string{}
	labels := map[string][]string{}
	require.Eventually(t, func() bool {
		text := string(fetch(t, "http://"+admin+"/metrics"))
		clear(metrics)
		for _, m := range familyLine.FindAllStringSubmatch(text, -1) {
			metrics[m[1]] = m[2]
		}
		for _, m := range sampleLine.FindAllStringSubmatch(text, -1) {
			for _, l := range labelPair.FindAllStringSubmatch(m[2], -1) {
				if name := family(metrics, m[1]); l[1] != "le" && !slices.Contains(labels[name], l[1]) {
					labels[name] = append(labels[name], l[1])
				}
			}
		}
		return strings.Contains(text, "mathub_webhooks_disabled_total 1\n") && strings.Contains(text, `reason="address"`)
	}, 3*time.Minute, time.Second)

	docs := readAll(t, "../../docs/observability.md")
	written := map[string]bool{}
	for _, row := range tableRow.FindAllSubmatch(docs, -1) {
		name := string(row[1])
		written[name] = true
		// Some are there only once it has happened.
		if kind, ok := metrics[name]; ok {
			require.Equal(t, kind, string(row[2]), name)
			slices.Sort(labels[name])
			require.Equal(t, strings.Join(labels[name], ", "), string(row[3]), name)
		} else {
			require.Contains(t, []string{"mathub_deliveries_queued_total", "mathub_deliveries_skipped_total", "mathub_delivery_errors_total", "mathub_egress_client_certificate_expiry_timestamp_seconds", "mathub_emit_conflicts_total", "mathub_emit_schema_faults_total", "mathub_emit_unknown_bots_total", "mathub_recorder_errors_total"}, name)
		}
	}
	for name := range metrics {
		if strings.HasPrefix(name, "mathub_") {
			require.True(t, written[name], "%s is not in docs/observability.md", name)
		}
	}

	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	require.NoError(t, json.Unmarshal(readAll(t, "../../deploy/grafana/mathub-webhooks.json"), &dashboard))
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	file, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(file, &rules))
	var named []string
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			named = append(named, target.Expr)
		}
	}
	for _, rule := range rules.Groups[0].Rules {
		named = append(named, rule.Expr)
	}
	require.Greater(t, len(named), 20)
	for _, expr := range named {
		known := []string{"le", "instance", "job"}
		names := metricName.FindAllString(expr, -1)
		require.True(t, len(names) > 0 || expr == `up{job="mathub-webhooks"} == 0`, expr) // Prometheus's own
		for _, name := range names {
			of := family(metrics, name)
			require.True(t, metrics[of] != "" || written[of], "%s, in %s", name, expr)
			known = append(known, labels[of]...)
			for _, row := range tableRow.FindAllStringSubmatch(string(docs), -1) {
				if row[1] == of {
					known = append(known, strings.Split(row[3], ", ")...)
				}
			}
		}
		for _, m := range matcher.FindAllStringSubmatch(expr, -1) {
			require.Contains(t, known, m[1], expr)
		}
		for _, m := range grouping.FindAllStringSubmatch(expr, -1) {
			for _, label := range strings.Split(m[1], ", ") {
				require.Contains(t, known, label, expr)
			}
		}
	}
}

// family is the metric that a series belongs to.
func family(metrics map[string]string, series string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(series, suffix); ok && metrics[base] == "histogram" {
			return base
		}
	}
	return series
}
