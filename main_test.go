package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/webhook"
)

// TestREADMENamesEverySetting holds the README's table of settings against the flags, both ways.
func TestREADMENamesEverySetting(t *testing.T) {
	var known []string
	for _, name := range variables(newParser(new(commands)).Model.Node) {
		if strings.HasPrefix(name, "MATHUB_") && !slices.Contains(known, name) {
			known = append(known, name)
		}
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n### Settings\n")
	require.True(t, found)
	var documented []string
	for _, line := range strings.Split(section, "\n") {
		if cell, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | "); ok {
			documented = append(documented, regexp.MustCompile(`MATHUB_\w+`).FindAllString(cell, -1)...)
		}
	}
	require.ElementsMatch(t, known, documented)
}

// TestREADMENamesEveryEvent: the README's table of events has those of the catalog.
func TestREADMENamesEveryEvent(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n## Events\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	for _, spec := range webhook.Catalog() {
		require.Contains(t, section, "`"+string(spec.Type)+"`")
	}
}

// TestREADMENamesEveryCommand holds the README's table of commands against the program, both ways.
func TestREADMENamesEveryCommand(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n## Commands\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	program := newParser(new(commands)).Model.Node
	var named []*kong.Node
	for _, line := range strings.Split(section, "\n")[3:] {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cell, -1) {
			node, whole := program, true
			for _, word := range strings.Fields(m[1]) {
				child := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word })
				if child < 0 {
					whole = word != "…"
					break
				}
				node = node.Children[child]
			}
			runs := len(node.Children) == 0 || node.DefaultCmd != nil
			require.True(t, node != program && (runs || !whole), "%s is no command", m[1])
			named = append(named, node)
		}
	}
	for _, command := range program.Children {
		of := func(n *kong.Node) bool { return n == command || n.Parent == command }
		require.True(t, command.Hidden || slices.ContainsFunc(named, of), "the README does not name %s", command.Name)
	}
}

// A worker sends nothing to what its settings name: its own listeners, the API, Postgres, Temporal, its Web UI, the
// collector, and what MATHUB_EGRESS_DENY lists.
func TestAWorkerKnowsItsOwnServices(t *testing.T) {
	for name, value := range map[string]string{
		"MATHUB_DATABASE_URL":                "postgres://u:hunter2@db1:5433,10.9.8.7:6543,[fd00::5]/mathub?sslmode=prefer",
		"MATHUB_KEYSET":                      "k",
		"MATHUB_ADDR":                        "0.0.0.0:8080",
		"MATHUB_INTERNAL_ADDR":               "10.0.0.1:8081",
		"MATHUB_ADMIN_ADDR":                  "127.0.0.1:6060",
		"MATHUB_TEMPORAL_UI":                 "https://temporal-ui.example.com/",
		"MATHUB_EGRESS_DENY":                 "api:8080,10.1.0.0/16:6060,:9090",
		"MATHUB_EGRESS_ALLOW_PORTS":          "9200,6379",
		"MATHUB_EGRESS_NAT64":                "64:ff9b::/96",
		"MATHUB_EGRESS_PROXY":                "socks5://u:hunter2@proxy:1080",
		"TEMPORAL_ADDRESS":                   "dns:///temporal:7233",
		"OTEL_EXPORTER_OTLP_ENDPOINT":        "http://collector:4318",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "",
	} {
		t.Setenv(name, value)
	}
	for command, apart := range map[string][]string{
		"serve":  nil,
		"worker": nil,
	} {
		t.Run(command, func(t *testing.T) {
			var c commands
			_, err := newParser(&c).Parse([]string{command})
			require.NoError(t, err)
			process := c.Serve.process()
			if command == "worker" {
				process = c.Worker.process()
			}
			options, err := process.EgressOptions()
			require.NoError(t, err)
			var denied []string
			for _, d := range options.Deny {
				text, err := d.MarshalText()
				require.NoError(t, err)
				denied = append(denied, string(text))
			}
			require.ElementsMatch(t, append(apart, "api:8080", "10.1.0.0/16:6060", ":9090", ":8080", "10.0.0.1:8081", "127.0.0.1:6060",
				"db1:5433", "10.9.8.7:6543", "[fd00::5]:5432", "temporal:7233", "temporal-ui.example.com:443", "collector:4318", "proxy:1080"), denied)
			require.Equal(t, "socks5://proxy:1080", options.Proxy.String())
			require.Equal(t, []uint16{9200, 6379}, process.Rules().AllowPorts)
			require.Len(t, process.Rules().NAT64, 1)
		})
	}
	for variable, value := range map[string]string{
		"MATHUB_EGRESS_DENY": "api:x", "MATHUB_EGRESS_NAT64": "64:ff9b::/95", "MATHUB_EGRESS_ALLOW_PORTS": "70000", "TEMPORAL_ADDRESS": "temporal:x",
		"MATHUB_EGRESS_CHECK": "https://example.com",
	} {
		t.Run(variable, func(t *testing.T) {
			t.Setenv(variable, value)
			var c commands
			_, err := newParser(&c).Parse([]string{"serve"})
			if err == nil {
				_, err = c.Serve.process().EgressOptions()
			}
			require.ErrorContains(t, err, value)
		})
	}
}

// TestOpsStatusSaysOnceWhatIsWrong, and no error besides. It starts this program as the command.
func TestOpsStatusSaysOnceWhatIsWrong(t *testing.T) {
	if os.Getenv("MATHUB_SERVICE_TOKEN") == t.Name() {
		os.Args = []string{"mathub-webhooks", "ops", "status"}
		main()
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"isWrong":true,"findings":[{"isWrong":true,"summary":"Two webhooks fail.","count":0,"items":[]}]}`)
	}))
	defer api.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "MATHUB_API="+api.URL, "MATHUB_SERVICE_TOKEN="+t.Name())
	printed, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 3, exit.ExitCode())
	require.Equal(t, "WRONG  Two webhooks fail.", strings.TrimSpace(string(printed)))
}

// A list of settings has blanks after its commas, as people write it.
func TestListsAreTrimmed(t *testing.T) {
	for name, value := range map[string]string{
		"MATHUB_DATABASE_URL": "postgres://h/x", "MATHUB_KEYSET": "k",
		"MATHUB_ADMIN_HOSTS": " ops.example, proxy.example ", "MATHUB_EGRESS_CHECK": "example.com, iana.org",
		"MATHUB_EGRESS_ALLOW_PORTS": "9200, 6379", "MATHUB_TRUSTED_PROXIES": "10.0.0.0/8 ,192.0.2.1/32",
	} {
		t.Setenv(name, value)
	}
	var c commands
	_, err := newParser(&c).Parse([]string{"serve"})
	require.NoError(t, err)
	require.Equal(t, []string{"ops.example", "proxy.example"}, c.Serve.AdminHosts)
	require.Equal(t, []string{"example.com", "iana.org"}, c.Serve.EgressCheck)
	require.Equal(t, []uint16{9200, 6379}, c.Serve.EgressAllowPorts)
	require.Len(t, c.Serve.TrustedProxies, 2)

	// And flags.
	t.Setenv("MATHUB_BOT_KEY", "bot_k")
	_, err = newParser(&c).Parse([]string{"events"})
	require.NoError(t, err)
	require.Empty(t, c.Events.Types)
	for _, asked := range []struct {
		args  []string
		types *[]string
	}{
		{[]string{"events", "--types"}, &c.Events.Types},
		{[]string{"listen", "--events"}, &c.Listen.Events},
		{[]string{"webhooks", "create", "http://h", "--events"}, &c.Webhooks.Create.Events},
		{[]string{"webhooks", "update", "id", "--events"}, &c.Webhooks.Update.Events},
	} {
		_, err := newParser(&c).Parse(append(asked.args, "post.created, mention"))
		require.NoError(t, err)
		require.Equal(t, []string{"post.created", "mention"}, *asked.types)
	}
}

// The value of a variable is often what a file holds, with a line break at its end. The doctor reads what serve reads.
func TestVariablesAreTrimmed(t *testing.T) {
	for name, value := range map[string]string{
		"MATHUB_DATABASE_URL": "postgres://h/x\n", "MATHUB_KEYSET": "k", "MATHUB_ADDR": " 127.0.0.1:80", "MATHUB_RATE_LIMIT": " 60 ",
		"MATHUB_EGRESS_ALLOW": "10.1.2.0/24, 10.1.3.0/24\n", "MATHUB_BOT_KEY": "bot_k\n", "TEMPORAL_API_KEY": "t\n",
	} {
		t.Setenv(name, value)
	}
	var c commands
	_, err := newParser(&c).Parse([]string{"serve"})
	require.NoError(t, err)
	require.Equal(t, "postgres://h/x", c.Serve.DatabaseURL)
	require.Equal(t, "127.0.0.1:80", c.Serve.Addr)
	require.Equal(t, 60, c.Serve.RateLimit)
	require.Equal(t, "t", os.Getenv("TEMPORAL_API_KEY"))
	for _, command := range []string{"doctor", "events"} {
		_, err = newParser(&c).Parse([]string{command})
		require.NoError(t, err)
	}
	require.Equal(t, []string{"10.1.2.0/24", "10.1.3.0/24"}, c.Doctor.EgressAllow)
	require.Equal(t, "bot_k", c.Events.Key)
}

// Every listener that a setting names is one that no webhook leads to.
func TestEveryListenerIsDenied(t *testing.T) {
	var c commands
	parser := newParser(&c)
	t.Setenv("MATHUB_DATABASE_URL", "postgres://h/x")
	t.Setenv("MATHUB_KEYSET", "k")
	listeners := 0
	for _, name := range variables(parser.Model.Node) {
		if !strings.HasSuffix(name, "_ADDR") {
			continue
		}
		listeners++
		t.Setenv(name, "127.0.0.1:23456")
		_, err := parser.Parse([]string{"serve"})
		require.NoError(t, err)
		options, err := c.Serve.process().EgressOptions()
		require.NoError(t, err)
		var own egress.Destination
		require.NoError(t, own.UnmarshalText([]byte("127.0.0.1:23456")))
		require.Contains(t, options.Deny, own, name)
		t.Setenv(name, "")
	}
	require.GreaterOrEqual(t, listeners, 2)
}
