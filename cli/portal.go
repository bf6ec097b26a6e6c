package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/settings"
	"github.com/mathub/webhooks/webhook"
)

// linkFlags say what a link to the portal is for.
type linkFlags struct {
	View  bool   `help:"A link that can change nothing."`
	Next  string `help:"The page that it leads to, such as /portal/deliveries."`
	Label string `help:"The person it is for. Lists of sessions show it."`
	JSON  bool   `help:"Print JSON."`
}

func (f linkFlags) role() bots.Role {
	if f.View {
		return bots.View
	}
	return bots.Manage
}

// linkView is a link as JSON, in the form that the API gives it.
type linkView struct {
	URL       string `json:"url"`
	ExpiresAt string `json:"expiresAt"`
}

type botPortalCommand struct {
	settings.Database
	linkFlags
	Bot       string `arg:"" name:"name-or-id" help:"The bot's id, or its name if it is unique."`
	PublicURL string `name:"public-url" env:"MATHUB_PUBLIC_URL" default:"http://127.0.0.1:8080" help:"The URL of the API and the portal as bot developers reach them."`
}

func (c *botPortalCommand) Run(ctx context.Context) error {
	return withBot(ctx, c.Database, c.Bot, func(ctx context.Context, service *bots.Service, botID string) error {
		code, expires, err := service.CreatePortalLink(ctx, botID, bots.PortalLink{Role: c.role(), Next: c.Next, Label: c.Label})
		if err != nil {
			return err
		}
		link := linkView{bots.PortalLinkURL(c.PublicURL, code), webhook.FormatTime(expires)}
		return printed(c.JSON, link, link.URL)
	})
}

// Portal makes a link to the portal with a bot's key.
type Portal struct {
	BotFlags
	linkFlags
	Open bool `help:"Open the link in this machine's browser."`
}

// Run implements kong's interface of commands.
func (c *Portal) Run(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	made, err := client.CreateOwnPortalLink(ctx, &mathub.NewPortalLink{Role: string(c.role()), Next: c.Next, Label: c.Label})
	if err != nil {
		return err
	}
	link := linkView{made.Value.URL, webhook.FormatTime(made.Value.ExpiresAt)}
	if err := printed(c.JSON, link, link.URL); err != nil || !c.Open {
		return err
	}
	if err := openBrowser(ctx, link.URL); err != nil {
		fmt.Fprintln(os.Stderr, "No browser could be started; open the link yourself: "+err.Error())
	}
	return nil
}

// browserTimeout bounds the program that hands a link to the browser.
const browserTimeout = 10 * time.Second

// openBrowser has the system's browser open a link, which other users of the machine may see on a command line: it works
// once, and the browser is faster.
func openBrowser(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, browserTimeout)
	defer cancel()
	name, args := "xdg-open", []string{url}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", url}
	}
	return exec.CommandContext(ctx, name, args...).Run() //nolint:gosec // the API's own link
}
