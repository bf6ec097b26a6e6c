package main

import (
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/standalone/webui"
	"github.com/mathub/webhooks/webhook"
)

// The commands can be pasted as they are.
var banner = template.Must(template.New("banner").Parse(`
Ready after {{.Seconds}}. Ctrl-C stops everything. The next start continues with the same data.

  Bot API        {{.API}}/api/bot/v1
  Service API    {{.Service}}/api/internal/v1
  Docs           {{.API}}/docs
  Portal         {{.Portal}}
  Operators      {{.Operators}}
  Temporal UI    {{.UI}}
  Bot key        {{.Key}}
  Service token  {{.Token}}
  Logs           {{.Logs}}
{{- range .Pauses}}
  Paused         {{.}}{{end}}

In another terminal, this opens the portal, checks the installation, and shows events as they come (in bash, zsh or fish):

  source {{.Env}}
  mathub-webhooks portal --open
  mathub-webhooks doctor
  mathub-webhooks listen

Try it. A receiver that prints what it gets, in a second terminal:

  {{.Standalone}} receiver --secret {{.Secret}}

Subscribe it, emit an event and see the delivery, in a third:

  source {{.Env}}
  mathub-webhooks webhooks create http://127.0.0.1:9000/ --events post.created --secret {{.Secret}}
  mathub-webhooks trigger post.created
  mathub-webhooks webhooks deliveries

`))

// portalLink opens the portal of the bot that the first start makes, once, within ten minutes. Later, a bot key does.
func (s *stack) portalLink(ctx context.Context) string {
	log, err := s.log("mathub-webhooks")
	if err == nil {
		var link string
		if link, err = s.ask(ctx, log, "bot", "portal", s.data.Credentials.BotID, "--public-url", cmp.Or(os.Getenv("MATHUB_PUBLIC_URL"), s.baseURL())); err == nil {
			return link + "\n                 (once, within 10 minutes; after that, sign in with the bot key)"
		}
	}
	return s.baseURL() + "/portal"
}

func (s *stack) banner(ctx context.Context) string {
	standalone := os.Args[0]
	if !strings.ContainsRune(standalone, filepath.Separator) {
		standalone = "standalone"
	}
	var b strings.Builder
	err := banner.Execute(&b, map[string]any{
		"Seconds":    time.Since(s.begun).Round(100 * time.Millisecond).String(),
		"API":        s.baseURL(),
		"Service":    s.serviceURL(),
		"Portal":     s.portalLink(ctx),
		"Operators":  urlOf(s.AdminAddr) + "/ops",
		"UI":         webui.Settings{Port: s.UIPort}.URL(),
		"Key":        s.data.Credentials.BotKey,
		"Token":      s.serviceToken(),
		"Logs":       s.data.Logs(),
		"Pauses":     s.pauses(ctx),
		"Env":        word(s.envPath()),
		"Standalone": word(standalone),
		"Secret":     webhook.NewSecret(),
	})
	if err != nil {
		return err.Error() + "\n"
	}
	return b.String()
}

// pauses are those that operators made before, and that last: who looks why nothing arrives may have forgotten.
func (s *stack) pauses(ctx context.Context) (lines []string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	api, err := mathub.NewService(s.serviceURL(), s.serviceToken())
	if err != nil {
		return nil
	}
	list, err := api.ListPauses(ctx, nil)
	if err != nil {
		return nil
	}
	for _, p := range list.Value {
		of := p.Scope
		if p.Value != nil {
			of += " " + *p.Value
		}
		lines = append(lines, "deliveries of "+of+", since "+webhook.FormatTime(p.Since)+": "+p.Reason)
	}
	return lines
}

// serviceToken is the user's own, or the one of the first start.
func (s *stack) serviceToken() string {
	if token, ok := os.LookupEnv("MATHUB_SERVICE_TOKEN"); ok {
		return token
	}
	return s.data.Credentials.ServiceToken
}
