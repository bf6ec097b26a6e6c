package faults_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/supervise"
	"github.com/mathub/webhooks/standalone/testkit"
)

// dnsTargets is how containers are found.
var dnsTargets = regexp.MustCompile(`(?m)^    dns_sd_configs:.*\n(?:      .*\n)+`)

// TestAnOutageIsNoticedWithinAMinute has a real Prometheus look at the product with our rules, while all webhooks of one bot
// fail, which no alert tells of, and takes Temporal, the workers and Postgres away.
func TestAnOutageIsNoticedWithinAMinute(t *testing.T) {
	t.Parallel()
	apps, admins := apart(), []string{}
	for i := range apps {
		admins = append(admins, freeAddr(t))
		apps[i].Env = map[string]string{"MATHUB_ADMIN_ADDR": admins[i]}
	}
	stack := testkit.Start(t, testkit.Options{Servers: durable, Apps: apps, Env: map[string]string{"MATHUB_EGRESS_CHECK": ""}})
	l := newLedger(t, stack, "healthy", 3)
	failing := stack.API().CreateBot(t, "failing")
	for range 20 {
		failing.CreateWebhook(t, fmt.Sprintf("http://%s/", freeAddr(t)), "", post)
	}
	for range 12 {
		failing.Emit(t, testkit.Event{Type: post, BotIDs: []string{failing.ID}})
	}
	stop := l.stream(t, 100*time.Millisecond)
	p := startPrometheus(t, admins)
	p.awaitScraped(t, len(admins))
	l.flows(t, 100)
	require.Eventually(t, func() bool { return p.query(t, `max(mathub_bots{state="failing"})`) == "1" }, slack*time.Minute, time.Second)
	require.Empty(t, p.firing(t), "for one bot")

	require.NoError(t, stack.Servers.StopTemporal(t.Context()))
	p.awaitFiring(t, "MathubTemporalAway")
	require.NotContains(t, p.firing(t), "MathubNoWorker", "one page for one cause")
	require.Equal(t, http.StatusOK, status(t, stack.API().URL+"/readyz"), "a load balancer keeps the API")
	require.Equal(t, http.StatusServiceUnavailable, status(t, "http://"+admins[0]+"/readyz"))
	require.NoError(t, stack.Servers.StartTemporal(t.Context()))
	require.Eventually(t, func() bool { return !slices.Contains(p.firing(t), "MathubTemporalAway") }, slack*time.Minute, time.Second)

	stack.Apps[1].Process().Kill()
	p.awaitFiring(t, "MathubNoWorker")
	require.NotContains(t, p.firing(t), "MathubTemporalAway")

	stop()
	require.NoError(t, stack.Servers.StopPostgres(t.Context(), syscall.SIGINT))
	p.awaitFiring(t, "MathubPostgresAway")
	require.Equal(t, http.StatusServiceUnavailable, status(t, stack.API().URL+"/readyz"))
	require.NoError(t, stack.Servers.StartPostgres(t.Context()))
}

func freeAddr(t *testing.T) string {
	t.Helper()
	port, err := freeport.Find()
	require.NoError(t, err)
	return fmt.Sprintf("127.0.0.1:%d", port)
}

func status(t *testing.T, url string) int {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get(url)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer.StatusCode
}

// watching is a Prometheus.
type watching struct{ addr string }

// startPrometheus has one scrape the addresses, with the rules, the intervals and the job's name of deploy/prometheus.
func startPrometheus(t *testing.T, targets []string) watching {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("../../deploy/prometheus")))
	config := filepath.Join(dir, "prometheus.yml")
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	list, err := json.Marshal(targets)
	require.NoError(t, err)
	here := dnsTargets.ReplaceAllLiteralString(string(text), fmt.Sprintf("    static_configs: [{targets: %s}]\n", list))
	require.NotEqual(t, string(text), here)
	require.NoError(t, os.WriteFile(config, []byte(here), 0o600))
	p := watching{addr: freeAddr(t)}
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	cmd := exec.Command(testkit.Tool(t, "prometheus"),
		"--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+p.addr)
	cmd.Stdout, cmd.Stderr = log, log
	process, err := supervise.Start("prometheus", cmd, supervise.Options{})
	require.NoError(t, err)
	t.Cleanup(func() {
		process.Kill()
		require.NoError(t, log.Close())
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("Prometheus:\n%s", text)
		}
	})
	return p
}

// ask reads Prometheus's API into what; false while it does not answer.
func (p watching) ask(t *testing.T, path string, what any) bool {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get("http://" + p.addr + "/api/v1/" + path)
	if err != nil {
		return false
	}
	defer answer.Body.Close() //nolint:errcheck // read
	return answer.StatusCode == http.StatusOK && json.NewDecoder(answer.Body).Decode(what) == nil
}

// query returns the value of a query with one, and "" for any other.
func (p watching) query(t *testing.T, query string) string {
	t.Helper()
	var answer struct {
		Data struct{ Result []struct{ Value []any } }
	}
	if !p.ask(t, "query?query="+url.QueryEscape(query), &answer) || len(answer.Data.Result) != 1 {
		return ""
	}
	value, _ := answer.Data.Result[0].Value[1].(string)
	return value
}

func (p watching) awaitScraped(t *testing.T, processes int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return p.query(t, `sum(up{job="mathub-webhooks"})`) == fmt.Sprint(processes) && p.query(t, `sum(mathub_ready)`) != ""
	}, slack*time.Minute, 500*time.Millisecond)
	// An alert of the time before all was seen is over.
	require.Eventually(t, func() bool { return len(p.firing(t)) == 0 }, slack*time.Minute, 500*time.Millisecond)
}

// firing are the alerts that fire.
func (p watching) firing(t *testing.T) (names []string) {
	t.Helper()
	var answer struct {
		Data struct {
			Alerts []struct {
				State  string
				Labels struct{ Alertname string }
			}
		}
	}
	require.True(t, p.ask(t, "alerts", &answer))
	for _, alert := range answer.Data.Alerts {
		if alert.State == "firing" {
			names = append(names, alert.Labels.Alertname)
		}
	}
	return names
}

// awaitFiring returns when the alert fires, within a minute, on a busy machine four.
func (p watching) awaitFiring(t *testing.T, name string) {
	t.Helper()
	began := time.Now()
	require.Eventually(t, func() bool { return slices.Contains(p.firing(t), name) }, slack*time.Minute, 500*time.Millisecond, name)
	t.Logf("%s after %v", name, time.Since(began).Round(time.Second))
}
