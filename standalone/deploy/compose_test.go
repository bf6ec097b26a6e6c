// Package deploy_test holds the files with which the product is deployed against the product.
package deploy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/mathub/webhooks/standalone/datadir"
	"github.com/mathub/webhooks/standalone/freeport"
	"github.com/mathub/webhooks/standalone/servers"
	"github.com/mathub/webhooks/standalone/supervise"
	"github.com/mathub/webhooks/standalone/testkit"
)

const composePath = "../../docker-compose.yml"

func TestMain(m *testing.M) { testkit.Main(m) }

// loadCompose reads the file as Docker Compose does, and holds it against the Compose specification's schema.
func loadCompose(ctx context.Context, content []byte, env map[string]string) (*types.Project, error) {
	return loader.LoadWithContext(ctx, types.ConfigDetails{
		WorkingDir:  filepath.Dir(composePath),
		ConfigFiles: []types.ConfigFile{{Filename: composePath, Content: content}},
		Environment: env,
	}, func(o *loader.Options) { o.Profiles = []string{"*"} })
}

// passwords are what .env has for the roles of Postgres, by the head of the file.
func passwords() map[string]string {
	return map[string]string{
		"POSTGRES_PASSWORD": datadir.Token(), "OWNER_PASSWORD": datadir.Token(), "APP_PASSWORD": datadir.Token(), "TEMPORAL_PASSWORD": datadir.Token(),
		"GRAFANA_PASSWORD": datadir.Token(),
	}
}

func compose(t *testing.T, env map[string]string) *types.Project {
	t.Helper()
	content, err := os.ReadFile(composePath)
	require.NoError(t, err)
	if env == nil {
		env = passwords()
	}
	project, err := loadCompose(t.Context(), content, env)
	require.NoError(t, err)
	return project
}

// TestComposeFileKeepsToItsSpecification also shows that the check refuses what does not.
func TestComposeFileKeepsToItsSpecification(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(composePath)
	require.NoError(t, err)
	misspelt := strings.Replace(string(content), "healthcheck:", "healthchek:", 1)
	require.NotEqual(t, string(content), misspelt)
	_, err = loadCompose(t.Context(), []byte(misspelt), passwords())
	require.ErrorContains(t, err, "healthchek")

	project := compose(t, nil)
	for name, service := range project.Services {
		for _, port := range service.Ports {
			require.Equal(t, "127.0.0.1", port.HostIP, "%s: Docker opens a published port in the firewall too", name)
			require.NotEqual(t, uint32(6060), port.Target, "%s: profiles show memory", name)
		}
	}
}

// TestComposeStartsInOrder: what something stands on is healthy, or has ended well, before it starts.
func TestComposeStartsInOrder(t *testing.T) {
	t.Parallel()
	project := compose(t, nil)
	for name, service := range project.Services {
		for on, dependency := range service.DependsOn {
			switch dependency.Condition {
			case types.ServiceConditionHealthy:
				require.NotNil(t, project.Services[on].HealthCheck, "%s waits for the health of %s, which has no check", name, on)
			case types.ServiceConditionCompletedSuccessfully:
				require.NotEqual(t, types.RestartPolicyUnlessStopped, project.Services[on].Restart, "%s waits for the end of %s", name, on)
			default:
				t.Errorf("%s does not wait until %s works: %s", name, on, dependency.Condition)
			}
		}
	}
	for _, name := range []string{"api", "worker"} {
		require.Contains(t, project.Services[name].DependsOn, "migrate")
		require.Contains(t, project.Services[name].DependsOn, "namespace")
	}
}

// TestComposeAndDockerfileAgree: what containers are told to run is what the image has.
func TestComposeAndDockerfileAgree(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../Dockerfile")
	require.NoError(t, err)
	dockerfile := string(raw)
	stages := strings.Split("\n"+dockerfile, "\nFROM ")
	final := stages[len(stages)-1]
	require.Regexp(t, `^gcr\.io/distroless/static-debian12:nonroot@`, final, "the last stage has neither shell nor root")
	require.Contains(t, dockerfile, "CGO_ENABLED=0")
	require.Contains(t, final, "USER nonroot:nonroot\n")
	_, entrypoint, found := strings.Cut(final, "ENTRYPOINT ")
	require.True(t, found)
	var program []string
	require.NoError(t, json.NewDecoder(strings.NewReader(entrypoint)).Decode(&program))
	require.Contains(t, final, " "+program[0]+"\n", "the program is copied to where it is started")
	project := compose(t, nil)
	for _, name := range []string{"api", "worker"} {
		require.Equal(t, []string{"CMD", program[0], "healthcheck"}, []string(project.Services[name].HealthCheck.Test)[:3], name)
	}
}

// native is a service of the compose file as a process on this machine.
type native struct {
	name    string
	command []string
	check   []string // arguments of its health check
	env     map[string]string
}

// TestComposeHasNoPasswordOfItsOwn: it refuses to start without one for each role, names the missing one, and tells nobody
// more of them than he needs.
func TestComposeHasNoPasswordOfItsOwn(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(composePath)
	require.NoError(t, err)
	for missing := range passwords() {
		for _, set := range []bool{false, true} {
			env := passwords()
			if delete(env, missing); set {
				env[missing] = ""
			}
			_, err := loadCompose(t.Context(), content, env)
			require.ErrorContains(t, err, missing)
		}
	}
	env := passwords()
	env["MATHUB_SERVICE_TOKEN"], env["MATHUB_KEYSET"] = datadir.Token(), datadir.Token()
	needs := map[string][]string{
		"postgres": {"POSTGRES_PASSWORD"}, "roles": {"POSTGRES_PASSWORD", "OWNER_PASSWORD", "APP_PASSWORD", "TEMPORAL_PASSWORD"}, "grafana": {"GRAFANA_PASSWORD"},
		"migrate": {"OWNER_PASSWORD"}, "schema": {"TEMPORAL_PASSWORD"}, "temporal": {"TEMPORAL_PASSWORD"},
		"api": {"APP_PASSWORD", "MATHUB_SERVICE_TOKEN", "MATHUB_KEYSET"}, "worker": {"APP_PASSWORD", "MATHUB_KEYSET"},
	}
	for name, service := range compose(t, env).Services {
		for secret, value := range env {
			told := slices.ContainsFunc(slices.Collect(maps.Values(service.Environment)), func(text *string) bool {
				return text != nil && strings.Contains(*text, value)
			})
			require.Equal(t, slices.Contains(needs[name], secret), told, "%s and %s", name, secret)
		}
	}
}

// makeRoles runs what the service "roles" does, on the test's Postgres.
func makeRoles(t *testing.T, project *types.Project, started *servers.Servers) {
	t.Helper()
	service := project.Services["roles"]
	require.Equal(t, "postgres", *service.Environment["PGHOST"])
	require.Equal(t, "/roles.sql", service.Configs[0].Target)
	superuser, err := url.Parse(started.DatabaseURL(servers.MainDatabase))
	require.NoError(t, err)
	password, _ := superuser.User.Password()
	script := strings.ReplaceAll(service.Command[0], "/roles.sql", project.Configs[service.Configs[0].Source].File)
	cmd := exec.CommandContext(t.Context(), service.Entrypoint[0], append(slices.Clone(service.Entrypoint[1:]), script)...)
	cmd.Env = []string{
		"PATH=" + testkit.ToolsPath(t), "PGHOST=127.0.0.1", "PGPORT=" + superuser.Port(), "PGUSER=" + superuser.User.Username(), "PGPASSWORD=" + password,
	}
	for name, value := range service.Environment {
		if name == "PGDATABASE" || !strings.HasPrefix(name, "PG") {
			cmd.Env = append(cmd.Env, name+"="+*value)
		}
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}

// natively takes the service as the file has it, and changes only where things are: the host names of containers become
// loopback ports, and the ports of containers, of which each has its own, free ones.
func natively(t *testing.T, service *types.ServiceConfig, started *servers.Servers) native {
	t.Helper()
	n := native{name: service.Name, command: service.Command, env: map[string]string{}}
	if service.HealthCheck != nil {
		n.check = service.HealthCheck.Test[2:]
	}
	for name, value := range service.Environment {
		require.NotNil(t, value, name)
		n.env[name] = *value
	}
	if _, needed := n.env["TEMPORAL_ADDRESS"]; needed {
		require.Equal(t, "temporal:7233", n.env["TEMPORAL_ADDRESS"])
		n.env["TEMPORAL_ADDRESS"] = started.TemporalAddr()
	}
	database, err := url.Parse(n.env["MATHUB_DATABASE_URL"])
	require.NoError(t, err)
	require.Equal(t, "postgres:5432", database.Host)
	actual, err := url.Parse(started.DatabaseURL(servers.MainDatabase))
	require.NoError(t, err)
	require.Equal(t, actual.Path, database.Path, "the database's name")
	actual.User = database.User
	n.env["MATHUB_DATABASE_URL"] = actual.String()
	for _, name := range []string{"MATHUB_ADDR", "MATHUB_INTERNAL_ADDR", "MATHUB_ADMIN_ADDR"} {
		if n.env[name] == "" {
			continue
		}
		host, _, err := net.SplitHostPort(n.env[name])
		require.NoError(t, err)
		require.Equal(t, "0.0.0.0", host, "%s: other containers must reach it", name)
		port, err := freeport.Find()
		require.NoError(t, err)
		n.env[name] = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	}
	return n
}

// cmd is the product with that service's environment and no other.
func (n native) cmd(ctx context.Context, binary string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = []string{}
	for name, value := range n.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

func (n native) start(t *testing.T, binary string) {
	t.Helper()
	cmd := n.cmd(context.Background(), binary, n.command)
	log := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = log, log
	process, err := supervise.Start(n.name, cmd, supervise.Options{})
	require.NoError(t, err)
	t.Cleanup(func() {
		process.Kill()
		if t.Failed() {
			t.Logf("%s:\n%s", n.name, log)
		}
	})
}

func (n native) awaitHealthy(t *testing.T, binary string) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		out, err := n.cmd(t.Context(), binary, n.check).CombinedOutput()
		assert.NoError(c, err, "%s: %s", n.name, out)
	}, time.Minute, 100*time.Millisecond)
}

// TestWhatComposeStartsDelivers starts the product's services with the commands and the environment of the compose
// file, two workers as its head says, and sees an event through.
func TestWhatComposeStartsDelivers(t *testing.T) {
	t.Parallel()
	binary := testkit.Build(t)
	keyset, err := exec.CommandContext(t.Context(), binary, "keyset", "new").Output()
	require.NoError(t, err)
	token := datadir.Token()
	env := passwords()
	env["MATHUB_KEYSET"], env["MATHUB_SERVICE_TOKEN"] = strings.TrimSpace(string(keyset)), token
	project := compose(t, env)

	started, err := servers.Start(t.Context(), servers.Options{Dir: testkit.Scratch(t), Program: testkit.Standalone(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, started.Stop()) })
	service := func(name string) native {
		config := project.Services[name]
		n := natively(t, &config, started)
		// The test's receiver is on this machine, and speaks http.
		n.env["MATHUB_EGRESS_ALLOW"], n.env["MATHUB_EGRESS_ALLOW_HTTP"] = "127.0.0.0/8,::1/128", "true"
		return n
	}
	makeRoles(t, project, started)
	makeRoles(t, project, started) // as at every start
	migrate := service("migrate")
	out, err := migrate.cmd(t.Context(), binary, migrate.command).CombinedOutput()
	require.NoError(t, err, string(out))
	api, workers := service("api"), []native{service("worker"), service("worker")}
	for _, n := range append(slices.Clone(workers), api) {
		n.start(t, binary)
	}
	for _, n := range append(slices.Clone(workers), api) {
		n.awaitHealthy(t, binary)
	}
	require.Equal(t, api.env["MATHUB_RETENTION"], workers[0].env["MATHUB_RETENTION"])

	receiver := testkit.NewReceiver(t)
	bot := (&testkit.API{URL: "http://" + api.env["MATHUB_ADDR"], ServiceURL: "http://" + api.env["MATHUB_INTERNAL_ADDR"], ServiceToken: token}).CreateBot(t, "compose")
	hook := bot.CreateWebhook(t, receiver.URL("/hook"), "s3cret", "post.created")
	bot.Emit(t, testkit.Event{Type: "post.created", Data: json.RawMessage(`{"postId":"1"}`)})
	require.NotEmpty(t, receiver.Await(t, "/hook", 1)[0].Header.Get("X-Mathub-Signature"))
	require.True(t, bot.AwaitDeliveries(t, hook.ID, 1)[0].Success)
}

// knownVariables are those that a subcommand's --help names: kong writes them from the flags themselves.
func knownVariables(t *testing.T, binary, command string) string {
	t.Helper()
	help, err := exec.CommandContext(t.Context(), binary, command, "--help").Output()
	require.NoError(t, err)
	return string(help)
}

// requireKnown fails for a variable that the command does not read. TEMPORAL_ ones are the SDK's.
func requireKnown(t *testing.T, help, where string, variables []string) {
	t.Helper()
	for _, name := range variables {
		switch {
		case strings.HasPrefix(name, "TEMPORAL_"):
			require.Contains(t, []string{"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"}, name, where)
		case name != "GOMEMLIMIT": // Go's own, see its package runtime
			require.Contains(t, help, "$"+name+")", "%s: the program knows no %s", where, name)
		}
	}
}

// TestComposeNamesVariablesThatTheProgramKnows: a misspelt one would silently leave the default in place.
func TestComposeNamesVariablesThatTheProgramKnows(t *testing.T) {
	t.Parallel()
	binary := testkit.Build(t)
	project := compose(t, nil)
	// API and worker share their environment in the file, and serve is both.
	help := knownVariables(t, binary, "serve")
	for _, name := range []string{"api", "worker", "migrate"} {
		require.NotEmpty(t, project.Services[name].Environment)
		requireKnown(t, help, name, slices.Collect(maps.Keys(project.Services[name].Environment)))
	}
}

// TestComposeMonitors: the profile has Prometheus with our rules scrape every process, and Grafana with our dashboard ask it.
func TestComposeMonitors(t *testing.T) {
	t.Parallel()
	project := compose(t, nil)
	for name, service := range project.Services {
		monitors := name == "prometheus" || name == "grafana"
		require.Equal(t, monitors, slices.Equal(service.Profiles, []string{"monitoring"}), name)
	}
	prometheus, grafana := project.Services["prometheus"], project.Services["grafana"]
	dir := t.TempDir() // as the container has its files
	for _, config := range prometheus.Configs {
		raw, err := os.ReadFile(project.Configs[config.Source].File)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, filepath.Base(config.Target)), raw, 0o600))
	}
	out, err := exec.CommandContext(t.Context(), testkit.Tool(t, "promtool"), "check", "config", filepath.Join(dir, "prometheus.yml")).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "SUCCESS: 1 rule files found")
	var scrapes struct {
		Jobs []struct {
			Name    string `yaml:"job_name"`
			Targets []struct {
				Names []string
				Port  int
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	raw, err := os.ReadFile(filepath.Join(dir, "prometheus.yml"))
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(raw, &scrapes))
	require.Len(t, scrapes.Jobs, 1)
	for _, target := range scrapes.Jobs[0].Targets {
		require.Equal(t, []string{"api", "worker"}, target.Names)
		for _, name := range target.Names {
			require.Equal(t, fmt.Sprintf("0.0.0.0:%d", target.Port), *project.Services[name].Environment["MATHUB_ADMIN_ADDR"])
		}
	}

	files := map[string]types.ConfigObjConfig{}
	for _, config := range grafana.Configs {
		files[config.Target] = project.Configs[config.Source]
	}
	require.Contains(t, files["/etc/grafana/provisioning/datasources/mathub.yaml"].Content, `url: "http://prometheus:9090"`)
	var dashboards struct {
		Providers []struct{ Options struct{ Path string } }
	}
	require.NoError(t, yaml.Unmarshal([]byte(files["/etc/grafana/provisioning/dashboards/mathub.yaml"].Content), &dashboards))
	require.Contains(t, files, dashboards.Providers[0].Options.Path+"/mathub-webhooks.json")
}

// TestComposeHasConnectionsForItsProcesses: an API, four workers and Temporal.
func TestComposeHasConnectionsForItsProcesses(t *testing.T) {
	t.Parallel()
	require.Contains(t, []string(compose(t, nil).Services["postgres"].Command), "max_connections=300")
}
