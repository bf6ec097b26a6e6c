// Mathub Webhooks delivers Mathub's events to the webhooks that bot developers subscribe.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/mathub/webhooks/cli"
	"github.com/mathub/webhooks/internal/app"
	"github.com/mathub/webhooks/internal/egress"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/settings"
	"github.com/mathub/webhooks/internal/settings/lists"
	"github.com/mathub/webhooks/webhook"
)

// version is set by the linker on a release: -ldflags "-X main.version=1.2.3".
var version = "dev"

type commands struct {
	Serve       serveCommand     `cmd:"" help:"Run the API and a worker in one process."`
	API         apiCommand       `cmd:"" name:"api" help:"Run the API alone."`
	Worker      workerCommand    `cmd:"" help:"Run a worker alone."`
	Migrate     cli.Migrate      `cmd:"" help:"Migrate the database's schema, list migrations, or revert the last one."`
	Bot         cli.Bot          `cmd:"" help:"Manage bots and their keys."`
	Keyset      cli.Keyset       `cmd:"" help:"Manage the keys that encrypt webhook URLs and secrets."`
	Fuse        cli.Fuse         `cmd:"" help:"Show and reset fuses, which keep faults of our own network from disabling webhooks."`
	Listen      cli.Listen       `cmd:"" help:"Print a bot's events as they arrive, and forward them to a local URL."`
	Portal      cli.Portal       `cmd:"" help:"Print a link that opens the portal of the bot, once, within 10 minutes."`
	Webhooks    cli.Webhooks     `cmd:"" help:"Manage a bot's webhooks."`
	Events      cli.Events       `cmd:"" help:"List a bot's events, a page at a time."`
	Trigger     cli.Trigger      `cmd:"" help:"Emit sample events."`
	Emit        cli.Emit         `cmd:"" help:"Emit events from a file or the standard input, one a line."`
	Ops         cli.Ops          `cmd:"" help:"Inspect events and manage webhooks, for operators."`
	Relay       cli.Relay        `cmd:"" help:"Emit the events in a backend's outbox table."`
	Resume      cli.Resume       `cmd:"" help:"After a restore: deliver the accepted events whose delivery it broke off."`
	Replay      cli.Replay       `cmd:"" help:"Replay workflows of Temporal with this version's workflow code, before a deploy, and say which it cannot go on with."`
	Doctor      cli.Doctor       `cmd:"" help:"Check settings, Postgres, Temporal and outbound access, and say how to fix what is wrong."`
	Healthcheck cli.Healthcheck  `cmd:"" help:"Ask the process on this machine whether it is ready. For supervisors."`
	Completion  cli.Completion   `cmd:"" help:"Print what makes bash, zsh or fish complete commands and flags."`
	Complete    cli.Complete     `cmd:"" hidden:""`
	Version     kong.VersionFlag `help:"Print the version."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commands
	parser := newParser(&c)
	command, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	command.BindTo(ctx, (*context.Context)(nil))
	err = command.Run()
	cli.ExitIfSaid(err)
	command.FatalIfErrorf(err)
}

func newParser(c *commands) *kong.Kong {
	return kong.Must(c,
		kong.Name("mathub-webhooks"),
		kong.Description("Mathub's webhook delivery service. Each flag can also be set by the environment variable beside it."),
		flagDefaults(),
		lists.Trimmed(),
		kong.ShortUsageOnError(),
		kong.Exit(cli.Exit),
		kong.BindToProvider(program),
	)
}

// program tells the doctor what only main knows.
func program() (cli.Program, error) {
	var c commands
	parser := newParser(&c)
	return cli.Program{
		Variables: variables(parser.Model.Node),
		CheckSettings: func() error {
			if _, err := parser.Parse([]string{"serve"}); err != nil {
				return err
			}
			return c.Serve.process().Check()
		},
		TemporalOptions: settings.Temporal,
		EgressOptions:   func() (egress.Options, error) { return c.Serve.process().EgressOptions() },
	}, nil
}

// variables are those of the environment that the flags of a command and of its subcommands read.
func variables(command *kong.Node) (names []string) {
	for _, flag := range command.Flags {
		names = append(names, flag.Envs...)
	}
	for _, child := range command.Children {
		names = append(names, variables(child)...)
	}
	return names
}

// flagDefaults are what the flags' tags refer to.
func flagDefaults() kong.Vars {
	return kong.Vars{
		"version":    buildVersion(),
		"schedule":   webhook.DefaultSchedule.String(),
		"unverified": webhook.DefaultUnverifiedRate.String(),
		"retention":  webhook.DefaultRetention.String(),
		"most":       fmt.Sprint(webhook.MaxWebhooksPerBot),
		"budget":     fmt.Sprint(history.DefaultBudgetMiB),
		"rows":       fmt.Sprint(history.DefaultBudgetRows),
		"checkhosts": strings.Join(egress.DefaultCheckHosts, ","),
	}
}

func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "dev" && strings.HasPrefix(info.Main.Version, "v") {
		return info.Main.Version[1:]
	}
	return version
}

type serveCommand struct {
	settings.Common
	settings.API
	settings.Worker
}

func (c *serveCommand) process() settings.Process {
	return settings.Process{Common: c.Common, API: &c.API, Worker: &c.Worker}
}

// Run implements kong's interface of commands, as the others do.
func (c *serveCommand) Run(ctx context.Context) error {
	return app.Run(ctx, c.process(), buildVersion())
}

type apiCommand struct {
	settings.Common
	settings.API
}

func (c *apiCommand) Run(ctx context.Context) error {
	return app.Run(ctx, settings.Process{Common: c.Common, API: &c.API}, buildVersion())
}

type workerCommand struct {
	settings.Common
	settings.Worker
	settings.Elsewhere
}

func (c *workerCommand) process() settings.Process {
	return settings.Process{Common: c.Common, Worker: &c.Worker, Elsewhere: c.Elsewhere}
}

func (c *workerCommand) Run(ctx context.Context) error {
	return app.Run(ctx, c.process(), buildVersion())
}
