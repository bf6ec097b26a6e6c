package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	mathub "github.com/mathub/webhooks/clients/go"
	"github.com/mathub/webhooks/webhook"
)

// Webhooks manages a bot's webhooks over the API.
type Webhooks struct {
	List       webhooksListCommand       `cmd:"" help:"List the bot's webhooks, oldest first."`
	Get        webhooksGetCommand        `cmd:"" help:"Show a webhook, and how it has been doing for 24 hours."`
	Create     webhooksCreateCommand     `cmd:"" help:"Subscribe an endpoint."`
	Update     webhooksUpdateCommand     `cmd:"" help:"Change the given settings of a webhook."`
	SigningKey webhooksSigningKeyCommand `cmd:"" help:"Give the webhook a key pair that signs beside its secret, or another one."`
	Delete     webhooksDeleteCommand     `cmd:"" help:"Delete a webhook and its history."`
	Test       webhooksTestCommand       `cmd:"" help:"Send a test event now. Fails if the delivery fails."`
	Verify     webhooksVerifyCommand     `cmd:"" help:"Verify the endpoint now. Fails if it does not answer with the nonce."`
	Deliveries webhooksDeliveriesCommand `cmd:"" help:"List deliveries of a webhook, or of all, newest first."`
	Delivery   webhooksDeliveryCommand   `cmd:"" help:"Show a delivery: payload, answer, headers, timings and next attempt."`
	Redeliver  webhooksRedeliverCommand  `cmd:"" help:"Send a delivery's event again, now. Fails if the delivery fails."`
	Waiting    webhooksWaitingCommand    `cmd:"" help:"List what waits, in the order in which it is sent."`
	RetryNow   webhooksRetryNowCommand   `cmd:"" help:"Attempt now what waits."`
	Missed     webhooksMissedCommand     `cmd:"" help:"Count and list the events that the webhook missed."`
	Recover    webhooksRecoverCommand    `cmd:"" help:"Deliver the events that the webhook missed."`
}

type outputFlags struct {
	JSON bool `help:"Print the API's JSON."`
}

// show prints the API's answer for machines, but for characters that would command a terminal, or as a table.
func (f outputFlags) show(raw []byte, table func(w io.Writer) error) error {
	if f.JSON {
		_, err := fmt.Println(visibleLines(string(bytes.TrimSpace(raw))))
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if err := table(w); err != nil {
		return err
	}
	return w.Flush()
}

func (f outputFlags) webhooks(raw []byte, list ...mathub.Webhook) error {
	return f.show(raw, func(w io.Writer) error {
		fmt.Fprintln(w, "ID\tNAME\tACTIVE\tFAILURES\tSIGNED\tVERIFIED\tEVENTS\tURL") //nolint:errcheck // Flush tells
		for _, h := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\n", h.ID, orDash(h.Name), yes(h.IsActive), h.FailureCount, yes(h.HasSecret), yes(h.Verified), strings.Join(h.Events, ","), h.URL) //nolint:errcheck // Flush tells
		}
		for _, h := range list {
			if h.Unreadable {
				fmt.Fprintf(w, "\nUnreadable: the service cannot decrypt the URL of %s; shown is its origin\n", h.ID) //nolint:errcheck // Flush tells
			}
			if h.DisabledAt != nil {
				why := orDash(h.DisabledReason)
				if h.DisabledNote != "" {
					why += ": " + h.DisabledNote
				}
				fmt.Fprintf(w, "\nDisabled since %s by %s (%s)\n", webhook.FormatTime(*h.DisabledAt), why, h.ID) //nolint:errcheck // Flush tells
			}
			if h.DuplicateOf != "" {
				fmt.Fprintf(w, "\nThe endpoint gets some of these events twice: %s has the same URL (%s)\n", h.DuplicateOf, h.ID) //nolint:errcheck // Flush tells
			}
			if h.Paused != nil {
				fmt.Fprintf(w, "\nPaused by an operator since %s: %s (%s)\n", webhook.FormatTime(h.Paused.Since), h.Paused.Reason, h.ID) //nolint:errcheck // Flush tells
			}
		}
		return nil
	})
}

// briefly are webhooks as tables show them, without how they have been doing.
func briefly(details ...mathub.WebhookDetail) []mathub.Webhook {
	list := make([]mathub.Webhook, len(details))
	for i, d := range details {
		list[i] = mathub.Webhook{
			ID: d.ID, Name: d.Name, IsActive: d.IsActive, FailureCount: d.FailureCount, HasSecret: d.HasSecret, Verified: d.Verified, Paused: d.Paused, Events: d.Events, URL: d.URL,
			Unreadable: d.Unreadable, DisabledAt: d.DisabledAt, DisabledReason: d.DisabledReason, DisabledNote: d.DisabledNote,
		}
	}
	return list
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

type webhooksListCommand struct {
	BotFlags
	outputFlags
}

func (c *webhooksListCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	list, raw, _, err := gather(pageFlags{Limit: math.MaxInt}, func(after string, _ int) (*mathub.Response[[]mathub.WebhookDetail], error) {
		return api.ListWebhooks(ctx, &mathub.ListWebhooksParams{After: after})
	})
	if err != nil {
		return err
	}
	return c.webhooks(raw, briefly(list...)...)
}

type webhooksCreateCommand struct {
	BotFlags
	outputFlags
	URL      string   `arg:"" help:"The endpoint's URL."`
	Name     string   `help:"A name for you, of at most 100 characters."`
	Events   []string `required:"" help:"The event types to subscribe to, separated by commas."`
	Filter   []string `sep:"none" placeholder:"FIELD=VALUE,…" help:"Only events whose data has one of these values in the field, such as projectSlug=number-theory,topology. May be repeated: all must match."`
	Secret   string   `env:"MATHUB_WEBHOOK_SECRET" help:"The secret that signs deliveries. Default: a new one, which is printed once."`
	NoSecret bool     `help:"Leave deliveries unsigned."`
	Header   []string `sep:"none" placeholder:"NAME:VALUE" help:"A header that each delivery carries, such as \"Authorization: Bearer …\". May be repeated."`
	Ordered  bool     `help:"Make deliveries one at a time, in the order of acceptance."`
}

func (c *webhooksCreateCommand) Run(ctx context.Context) error {
	headers, err := headersOf(c.Header, nil)
	if err != nil {
		return err
	}
	filter, err := filterOf(c.Filter)
	if err != nil {
		return err
	}
	api, err := c.client()
	if err != nil {
		return err
	}
	isNew, err := c.chooseSecret()
	if err != nil {
		return err
	}
	answer, err := api.CreateWebhook(ctx, mathub.NewWebhook{URL: c.URL, Name: c.Name, Events: eventTypes(c.Events), Filter: filter, Secret: c.Secret, Headers: headers, Ordered: c.Ordered})
	refused := new(mathub.Problem)
	switch {
	case err == nil && isNew:
		fmt.Fprintln(os.Stderr, "Secret, shown this once: "+c.Secret)
	case err != nil && isNew && (!errors.As(err, &refused) || refused.Status >= http.StatusInternalServerError):
		fmt.Fprintln(os.Stderr, "Look whether it was created all the same: \"webhooks list\". Its secret then is "+c.Secret)
	}
	if err != nil {
		return err
	}
	return c.webhooks(answer.Body, answer.Value)
}

// chooseSecret leaves in Secret what the webhook is to have; isNew: it was made here.
func (c *webhooksCreateCommand) chooseSecret() (isNew bool, err error) {
	switch {
	case c.NoSecret && c.Secret != os.Getenv("MATHUB_WEBHOOK_SECRET"): // which may be there for "listen"
		return false, usageError{errors.New("--secret and --no-secret can't be used together")}
	case c.NoSecret:
		c.Secret = ""
	case c.Secret == "":
		c.Secret, isNew = webhook.NewSecret(), true
	}
	return isNew, nil
}

type webhooksGetCommand struct {
	BotFlags
	outputFlags
	webhookArg
}

// Run shows the webhook.
func (c *webhooksGetCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	found, err := api.GetWebhook(ctx, c.ID)
	if err != nil {
		return err
	}
	h := found.Value
	return c.show(found.Body, func(w io.Writer) error {
		facts(w, [][2]string{
			{"Webhook", h.ID},
			{"Name", orDash(h.Name)},
			{"URL", h.URL},
			{"Events", strings.Join(h.Events, ", ")},
			{"Filter", filterText(h.Filter)},
			{"State", stateOf(h)},
			{"Failures", fmt.Sprintf("%d of %d in a row", h.FailureCount, webhook.MaxFailures)},
			{"Ordered", yes(h.Ordered)},
			{"Signed", yes(h.HasSecret)},
			{"Public keys", cmp.Or(strings.Join(h.PublicKeys, ", "), "-")},
			{"Own headers", cmp.Or(strings.Join(h.HeaderNames, ", "), "-")},
			{"Verified", yes(h.Verified)},
			{"Last", last(h.LastDelivery)},
			{"Last error", last(h.LastError)},
			{"24 hours", rate(h.Stats)},
		})
		return nil
	})
}

// stateOf says whether a webhook is active, and why not.
func stateOf(h mathub.WebhookDetail) string {
	switch {
	case h.IsActive && h.Paused != nil:
		return fmt.Sprintf("active, but paused by an operator since %s: %s", webhook.FormatTime(h.Paused.Since), h.Paused.Reason)
	case h.IsActive:
		return "active"
	case h.DisabledReason == nil:
		return "disabled"
	}
	text := fmt.Sprintf("disabled at %s by %s", orNone(h.DisabledAt), *h.DisabledReason)
	switch {
	case h.DisabledBy != nil:
		text += ", the last of them delivery " + *h.DisabledBy
	case h.DisabledNote != "":
		text += ": " + h.DisabledNote
	}
	return text
}

// last says when a delivery was attempted, and how it went.
func last(d *mathub.LastDelivery) string {
	if d == nil {
		return "-"
	}
	return webhook.FormatTime(d.AttemptedAt) + ": " + outcomeOf(d.Success, d.Error, d.StatusCode)
}

func rate(s mathub.Stats) string {
	if s.SuccessRate24H == nil {
		return "no deliveries"
	}
	return fmt.Sprintf("%d deliveries, %.1f %% taken", s.Deliveries24H, 100**s.SuccessRate24H)
}

func eventTypes(names []string) (types mathub.EventTypes) {
	for _, name := range names {
		types = append(types, mathub.EventType(name))
	}
	return types
}

// webhookArg names a webhook.
type webhookArg struct {
	ID string `arg:"" name:"webhook" help:"The webhook's id, as \"webhooks list\" shows it."`
}

type webhooksDeleteCommand struct {
	BotFlags
	webhookArg
}

func (c *webhooksDeleteCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return api.DeleteWebhook(ctx, c.ID)
}

// outcomeOf says in a word how a delivery went.
func outcomeOf(success bool, problem *string, status *int) string {
	switch {
	case problem != nil:
		return *problem
	case status != nil:
		return "HTTP " + strconv.Itoa(*status)
	case success:
		return "delivered"
	}
	return "failed"
}

type webhooksTestCommand struct {
	BotFlags
	outputFlags
	webhookArg
	Event string `help:"Send the catalog's sample of this event type, such as post.created. Default: a plain test event."`
}

func (c *webhooksTestCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return c.delivered(api.TestWebhook(ctx, c.ID, &mathub.TestRequest{EventType: c.Event}))
}

type webhooksVerifyCommand struct {
	BotFlags
	outputFlags
	webhookArg
}

func (c *webhooksVerifyCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return c.delivered(api.VerifyWebhook(ctx, c.ID))
}

type webhooksRedeliverCommand struct {
	BotFlags
	outputFlags
	webhookArg
	Delivery string `arg:"" help:"The delivery's id, as \"webhooks deliveries\" shows it."`
}

func (c *webhooksRedeliverCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return c.delivered(api.RedeliverDelivery(ctx, c.ID, c.Delivery))
}

type webhooksWaitingCommand struct {
	BotFlags
	outputFlags
	webhookArg
}

func (c *webhooksWaitingCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return c.waiting(api.ListWaiting(ctx, c.ID))
}

// waiting shows what waits for a webhook.
func (f outputFlags) waiting(answer *mathub.Response[[]mathub.WaitingDelivery], err error) error {
	if err != nil {
		return err
	}
	return f.show(answer.Body, func(w io.Writer) error {
		fmt.Fprintln(w, "POSITION\tEVENT\tTYPE\tACCEPTED\tATTEMPT\tTRIGGER\tNEXT ATTEMPT") //nolint:errcheck // Flush tells
		for _, d := range answer.Value {
			next := "after those before it"
			if d.NextAttemptAt != nil {
				next = webhook.FormatTime(*d.NextAttemptAt)
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\t%s\n", d.Position, d.EventID, d.EventType, webhook.FormatTime(d.AcceptedAt), d.Attempt, d.Trigger, next) //nolint:errcheck // Flush tells
		}
		return nil
	})
}

type webhooksRetryNowCommand struct {
	BotFlags
	outputFlags
	webhookArg
	retryFlags
}

// retryFlags say what is attempted now.
type retryFlags struct {
	Event string `help:"Attempt only this event, by its id. Default: all that wait."`
}

func (c *webhooksRetryNowCommand) Run(ctx context.Context) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	return c.retryNow(api.RetryNow(ctx, c.ID, &mathub.RetryRequest{EventID: c.Event}))
}

// retryNow shows how many attempts were made due.
func (f outputFlags) retryNow(answer *mathub.Response[mathub.RetryResult], err error) error {
	if err != nil {
		return err
	}
	return f.show(answer.Body, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "ATTEMPTS\n%d\n", answer.Value.Attempts)
		return err
	})
}
