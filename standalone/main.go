// Standalone runs all of Mathub Webhooks on one machine with nothing else installed: a private Postgres, a Temporal
// server and its Web UI, the API and a worker.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/alecthomas/kong"

	"github.com/mathub/webhooks/internal/settings/lists"
	"github.com/mathub/webhooks/standalone/temporal/server"
	"github.com/mathub/webhooks/standalone/webui"
)

// version is set by the linker on a release: -ldflags "-X main.version=1.2.3".
var version = "dev"

// webUIName is the hidden subcommand with which this program starts itself as Temporal's Web UI.
const webUIName = "temporal-web-ui"

type commands struct {
	Run         runCommand         `cmd:"" default:"withargs" help:"Run everything until Ctrl-C (the default)."`
	Receiver    receiverCommand    `cmd:"" help:"Receive webhooks: print each delivery and check its signatures."`
	Cluster     clusterCommand     `cmd:"" help:"Run everything as on several machines: hosts in network namespaces, each of which can fail by itself. Needs root on Linux."`
	WithServers withServersCommand `cmd:"" help:"Run a command, such as tests, with a private, throw-away Postgres and Temporal server."`

	TemporalServer temporalServerCommand `cmd:"" name:"temporal-server" hidden:""`
	TemporalWebUI  temporalWebUICommand  `cmd:"" name:"temporal-web-ui" hidden:""`

	Version kong.VersionFlag `help:"Print the version."`
}

type temporalServerCommand struct{}

func (*temporalServerCommand) Run() error { return server.RunChild() }

type temporalWebUICommand struct{}

func (*temporalWebUICommand) Run() error { return webui.RunChild() }

func main() {
	var c commands
	parser := kong.Parse(&c,
		kong.Name("standalone"),
		kong.Description("Mathub Webhooks on one machine. Each flag can also be set by the environment variable beside it."),
		kong.Vars{"version": version},
		lists.Trimmed(),
		kong.UsageOnError(),
	)
	err := parser.Run()
	var exit status
	switch {
	case errors.As(err, &exit):
		os.Exit(int(exit))
	case err != nil:
		fmt.Fprintln(os.Stderr, "standalone:", err)
		os.Exit(1)
	}
}
