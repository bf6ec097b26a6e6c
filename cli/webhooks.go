package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Webhooks manages a bot's webhooks over the API.
type Webhooks struct {
	List       webhooksListCommand       `cmd:"" help:"List the bot's webhooks, oldest first."`
	Create     webhooksCreateCommand     `cmd:"" help:"Subscribe an endpoint."`
	Update     webhooksUpdateCommand     `cmd:"" help:"Change what is named, and nothing else."`
	Delete     webhooksDeleteCommand     `cmd:"" help:"Delete a webhook and its history."`
	Test       webhooksTestCommand       `cmd:"" help:"Send a test event now; fails if the receiver does not take it."`
	Verify     webhooksVerifyCommand     `cmd:"" help:"Ask the endpoint now whether it wants deliveries; fails if it does not answer with the nonce."`
	Deliveries webhooksDeliveriesCommand `cmd:"" help:"List the last 50 deliveries, newest first."`
	Redeliver  webhooksRedeliverCommand  `cmd:"" help:"Send a delivery's event once more, now; fails if the receiver does not take it."`
	Recover    webhooksRecoverCommand    `cmd:"" help:"Deliver what the webhook missed."`
}

const webhooksPath = botAPI + "webhooks"

type outputFlags struct {
	JSON bool `help:"Print the API's JSON."`
}

// show prints the API's answer as it came, for machines, or as a table.
func (f outputFlags) show(raw json.RawMessage, table func(w io.Writer) error) error {
	if f.JSON {
		_, err := fmt.Println(strings.TrimSpace(string(raw)))
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	if err := table(w); err != nil {
		return err
	}
	return w.Flush()
}

type webhookView struct {
	ID           string   `json:"id"`
	URL          string   `json:"url"`
	Events       []string `json:"events"`
	IsActive     bool     `json:"isActive"`
	FailureCount int      `json:"failureCount"`
	HasSecret    bool     `json:"hasSecret"`
	Verified     bool     `json:"verified"`
}

func (f outputFlags) webhooks(raw json.RawMessage, list ...webhookView) error {
	return f.show(raw, func(w io.Writer) error {
		fmt.Fprintln(w, "ID\tACTIVE\tFAILURES\tSIGNED\tVERIFIED\tEVENTS\tURL") //nolint:errcheck // Flush tells
		for _, h := range list {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", h.ID, yes(h.IsActive), h.FailureCount, yes(h.HasSecret), yes(h.Verified), strings.Join(h.Events, ","), h.URL) //nolint:errcheck // Flush tells
		}
		return nil
	})
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (f outputFlags) webhook(raw json.RawMessage) error {
	var one webhookView
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	return f.webhooks(raw, one)
}

type webhooksListCommand struct {
	BotFlags
	outputFlags
}

func (c *webhooksListCommand) Run(ctx context.Context) error {
	var raw json.RawMessage
	var list []webhookView
	if err := c.client().call(ctx, http.MethodGet, webhooksPath, nil, &raw); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	return c.webhooks(raw, list...)
}

type webhooksCreateCommand struct {
	BotFlags
	outputFlags
	URL    string   `arg:"" help:"Where events are sent to."`
	Events []string `required:"" help:"The event types to subscribe to, with commas between them."`
	Secret string   `env:"MATHUB_WEBHOOK_SECRET" help:"Keys the signatures; unsigned without one."`
}

func (c *webhooksCreateCommand) Run(ctx context.Context) error {
	body := map[string]any{"url": c.URL, "events": c.Events}
	if c.Secret != "" {
		body["secret"] = c.Secret
	}
	var raw json.RawMessage
	if err := c.client().call(ctx, http.MethodPost, webhooksPath, body, &raw); err != nil {
		return err
	}
	return c.webhook(raw)
}

// webhookArg names a webhook.
type webhookArg struct {
	ID string `arg:"" name:"webhook" help:"The webhook's id, as \"webhooks list\" shows it."`
}

func (a webhookArg) path(rest string) string { return webhooksPath + "/" + url.PathEscape(a.ID) + rest }

type webhooksUpdateCommand struct {
	BotFlags
	outputFlags
	webhookArg
	URL           string   `help:"A new URL."`
	Events        []string `help:"The event types to subscribe to instead."`
	Secret        string   `xor:"secret" help:"A new secret."`
	SecretOverlap string   `help:"With --secret: for how long the one before signs too, such as 24h."`
	NoSecret      bool     `xor:"secret" help:"Remove the secret."`
	Enable        bool     `xor:"active" help:"Enable the webhook, with a failure count of 0."`
	Disable       bool     `xor:"active" help:"Disable the webhook."`
}

func (c *webhooksUpdateCommand) Run(ctx context.Context) error {
	change := map[string]any{}
	if c.URL != "" {
		change["url"] = c.URL
	}
	if c.Events != nil {
		change["events"] = c.Events
	}
	if c.Secret != "" {
		change["secret"] = c.Secret
	}
	if c.SecretOverlap != "" {
		change["secretOverlap"] = c.SecretOverlap
	}
	if c.NoSecret {
		change["secret"] = nil
	}
	if c.Enable || c.Disable {
		change["isActive"] = c.Enable
	}
	if len(change) == 0 {
		return usageError{fmt.Errorf("say what to change: --url, --events, --secret, --no-secret, --enable or --disable")}
	}
	var raw json.RawMessage
	if err := c.client().call(ctx, http.MethodPatch, c.path(""), change, &raw); err != nil {
		return err
	}
	return c.webhook(raw)
}

type webhooksDeleteCommand struct {
	BotFlags
	webhookArg
}

func (c *webhooksDeleteCommand) Run(ctx context.Context) error {
	return c.client().call(ctx, http.MethodDelete, c.path(""), nil, nil)
}

type deliveryView struct {
	ID          string  `json:"id"`
	EventID     string  `json:"eventId"`
	EventType   string  `json:"eventType"`
	Attempt     int     `json:"attempt"`
	StatusCode  *int    `json:"statusCode"`
	Error       *string `json:"error"`
	Success     bool    `json:"success"`
	DurationMS  int     `json:"durationMs"`
	AttemptedAt string  `json:"attemptedAt"`
}

func (d deliveryView) outcome() string {
	if d.Error != nil {
		return *d.Error
	}
	if d.StatusCode != nil {
		return "HTTP " + strconv.Itoa(*d.StatusCode)
	}
	return "delivered"
}

func (f outputFlags) deliveries(raw json.RawMessage, list ...deliveryView) error {
	return f.show(raw, func(w io.Writer) error {
		fmt.Fprintln(w, "ATTEMPTED\tOK\tOUTCOME\tMS\tATTEMPT\tEVENT\tEVENT ID\tDELIVERY") //nolint:errcheck // Flush tells
		for _, d := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", d.AttemptedAt, yes(d.Success), d.outcome(), d.DurationMS, d.Attempt, d.EventType, d.EventID, d.ID) //nolint:errcheck // Flush tells
		}
		return nil
	})
}

// delivered shows the one delivery a call made, and fails if that did.
func (f outputFlags) delivered(raw json.RawMessage) error {
	var one deliveryView
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	if err := f.deliveries(raw, one); err != nil {
		return err
	}
	if !one.Success {
		return errFailed
	}
	return nil
}

type webhooksTestCommand struct {
	BotFlags
	outputFlags
	webhookArg
}

func (c *webhooksTestCommand) Run(ctx context.Context) error {
	var raw json.RawMessage
	if err := c.client().call(ctx, http.MethodPost, c.path("/test"), nil, &raw); err != nil {
		return err
	}
	return c.delivered(raw)
}

type webhooksVerifyCommand struct {
	BotFlags
	outputFlags
	webhookArg
}

func (c *webhooksVerifyCommand) Run(ctx context.Context) error {
	var raw json.RawMessage
	if err := c.client().call(ctx, http.MethodPost, c.path("/verify"), nil, &raw); err != nil {
		return err
	}
	return c.delivered(raw)
}

type webhooksDeliveriesCommand struct {
	BotFlags
	outputFlags
	webhookArg
}

func (c *webhooksDeliveriesCommand) Run(ctx context.Context) error {
	var raw json.RawMessage
	var list []deliveryView
	if err := c.client().call(ctx, http.MethodGet, c.path("/deliveries"), nil, &raw); err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	return c.deliveries(raw, list...)
}

type webhooksRedeliverCommand struct {
	BotFlags
	outputFlags
	webhookArg
	Delivery string `arg:"" help:"The delivery's id, as \"webhooks deliveries\" shows it."`
}

func (c *webhooksRedeliverCommand) Run(ctx context.Context) error {
	var raw json.RawMessage
	if err := c.client().call(ctx, http.MethodPost, c.path("/deliveries/"+url.PathEscape(c.Delivery)+"/redeliver"), nil, &raw); err != nil {
		return err
	}
	return c.delivered(raw)
}

type webhooksRecoverCommand struct {
	BotFlags
	outputFlags
	webhookArg
	Since  string `help:"From when on, in RFC 3339; a day before the webhook was last disabled when left out."`
	Until  string `help:"Until when; now when left out."`
	Wait   bool   `help:"Wait for its end; fails if a delivery failed or it did not complete."`
	Status bool   `xor:"verb" help:"Show how far the last recovery has come, and start none."`
	Cancel bool   `xor:"verb" help:"Cancel the recovery that runs."`
}

type recoveryView struct {
	State     string  `json:"state"`
	Found     int     `json:"found"`
	Delivered int     `json:"delivered"`
	Failed    int     `json:"failed"`
	Remaining int     `json:"remaining"`
	LastError *string `json:"lastError"`

	raw json.RawMessage // what the API answered
}

func (c *webhooksRecoverCommand) Run(ctx context.Context) error {
	if c.Cancel {
		return c.client().call(ctx, http.MethodDelete, c.path("/recover"), nil, nil)
	}
	r, err := c.state(ctx, !c.Status)
	for err == nil && c.Wait && r.State == "running" {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
		r, err = c.state(ctx, false)
	}
	if err != nil {
		return err
	}
	if err := c.show(r.raw, r.print); err != nil {
		return err
	}
	if c.Wait && (r.State != "completed" || r.Failed > 0) {
		return errFailed
	}
	return nil
}

// state is how far the last recovery has come: of a new one, if it is to begin.
func (c *webhooksRecoverCommand) state(ctx context.Context, begin bool) (r recoveryView, err error) {
	if begin {
		span := map[string]string{}
		if c.Since != "" {
			span["since"] = c.Since
		}
		if c.Until != "" {
			span["until"] = c.Until
		}
		err = c.client().call(ctx, http.MethodPost, c.path("/recover"), span, &r.raw)
	} else {
		err = c.client().call(ctx, http.MethodGet, c.path("/recover"), nil, &r.raw)
	}
	if err == nil {
		err = json.Unmarshal(r.raw, &r)
	}
	return r, err
}

func (r recoveryView) print(w io.Writer) error {
	lastError := "-"
	if r.LastError != nil {
		lastError = *r.LastError
	}
	_, err := fmt.Fprintf(w, "STATE\tFOUND\tDELIVERED\tFAILED\tREMAINING\tLAST ERROR\n%s\t%d\t%d\t%d\t%d\t%s\n", r.State, r.Found, r.Delivered, r.Failed, r.Remaining, lastError)
	return err
}
