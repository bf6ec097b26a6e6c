package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/mathub/webhooks/webhook"
)

// maxPayloadShown bounds, in characters, what is shown of a payload.
const maxPayloadShown = 500

// Ops is what operators ask the service API.
type Ops struct {
	Event opsEventCommand `cmd:"" help:"Find an event: its workflow, and what became of it at each webhook."`

	Webhooks opsWebhooks `cmd:"" help:"List, show, enable, disable and delete webhooks of any bot."`
}

type opsEventCommand struct {
	APIFlags
	outputFlags
	ServiceToken string `env:"MATHUB_SERVICE_TOKEN" required:"" help:"The service API's token. Better in the environment than on the command line."`
	ID           string `arg:"" name:"id" help:"The event's id, which receivers get as webhook-id."`
	Outcome      string `enum:",delivered,failed,waiting" default:"" help:"List the webhooks of one outcome only: delivered, failed or waiting."`
	After        string `help:"List the webhooks after this one, as the end of the list before says."`
}

type eventView struct {
	ID           string          `json:"id"`
	EventType    string          `json:"eventType"`
	Timestamp    string          `json:"timestamp"`
	AcceptedAt   string          `json:"acceptedAt"`
	BotIDs       *[]string       `json:"botIds"`
	PayloadBytes int             `json:"payloadBytes"`
	Payload      json.RawMessage `json:"payload"`
	Workflow     struct {
		ID    string  `json:"id"`
		RunID string  `json:"runId"`
		URL   *string `json:"url"`
	} `json:"workflow"`
	Audience struct {
		Webhooks  int  `json:"webhooks"`
		Delivered int  `json:"delivered"`
		Failed    int  `json:"failed"`
		Waiting   int  `json:"waiting"`
		More      bool `json:"more"`
	} `json:"audience"`
	Webhooks []eventWebhookView `json:"webhooks"`
}

type eventWebhookView struct {
	WebhookID      string  `json:"webhookId"`
	BotID          string  `json:"botId"`
	Host           string  `json:"host"`
	IsActive       bool    `json:"isActive"`
	Outcome        string  `json:"outcome"`
	Attempts       int     `json:"attempts"`
	LastAttemptAt  *string `json:"lastAttemptAt"`
	LastStatusCode *int    `json:"lastStatusCode"`
	LastError      *string `json:"lastError"`
	NextAttemptAt  *string `json:"nextAttemptAt"`
}

// Run shows the event.
func (c *opsEventCommand) Run(ctx context.Context) error {
	if !webhook.ValidID(c.ID) {
		return usageError{errors.New("the event's id must be 1 to 128 of the characters A-Z a-z 0-9 _ -")}
	}
	query := url.Values{}
	for name, value := range map[string]string{"outcome": c.Outcome, "after": c.After} {
		if value != "" {
			query.Set(name, value)
		}
	}
	path := serviceAPI + "events/" + c.ID
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var raw json.RawMessage
	api := &apiClient{base: c.API, token: c.ServiceToken}
	header, err := api.exchange(ctx, http.MethodGet, path, nil, &raw)
	if err != nil {
		return err
	}
	var e eventView
	if err := json.Unmarshal(raw, &e); err != nil {
		return err
	}
	return c.show(raw, func(w io.Writer) error {
		e.describe(w)
		e.list(w)
		if after := nextAfter(header); after != "" {
			fmt.Fprintf(w, "\nMore webhooks follow: --after %s\n", after) //nolint:errcheck // Flush tells
		}
		return nil
	})
}

// describe writes all but the webhooks, a line for each thing.
func (e eventView) describe(w io.Writer) {
	bots, more, page := "every bot", "", "unknown: MATHUB_TEMPORAL_UI is not set where the API runs"
	if e.BotIDs != nil {
		bots = strings.Join(*e.BotIDs, ", ")
	}
	if e.Audience.More {
		more = ", and more that were not counted"
	}
	if e.Workflow.URL != nil {
		page = *e.Workflow.URL
	}
	for _, line := range [][2]string{
		{"Event", e.ID},
		{"Type", e.EventType},
		{"Happened", e.Timestamp},
		{"Accepted", e.AcceptedAt},
		{"Goes to", bots},
		{"Workflow", e.Workflow.ID},
		{"Run", e.Workflow.RunID},
		{"Web UI", page},
		{"Payload", fmt.Sprintf("%d bytes: %s", e.PayloadBytes, shortened(visible(e.Payload)))},
		{"Webhooks", fmt.Sprintf("%d%s: %d delivered, %d failed, %d waiting", e.Audience.Webhooks, more, e.Audience.Delivered, e.Audience.Failed, e.Audience.Waiting)},
	} {
		fmt.Fprintf(w, "%s\t%s\n", line[0], line[1]) //nolint:errcheck // Flush tells
	}
}

// list writes the webhooks as a table.
func (e eventView) list(w io.Writer) {
	if len(e.Webhooks) == 0 {
		return
	}
	fmt.Fprintln(w, "\nOUTCOME\tATTEMPTS\tLAST ATTEMPT\tANSWER\tNEXT ATTEMPT\tACTIVE\tHOST\tBOT\tWEBHOOK") //nolint:errcheck // Flush tells
	for _, h := range e.Webhooks {
		//nolint:errcheck // Flush tells
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", h.Outcome, h.Attempts, orNone(h.LastAttemptAt), h.answer(), orNone(h.NextAttemptAt),
			yes(h.IsActive), h.Host, h.BotID, h.WebhookID)
	}
}

// answer is what the last attempt met.
func (h eventWebhookView) answer() string {
	switch {
	case h.LastError != nil:
		return *h.LastError
	case h.LastStatusCode != nil:
		return "HTTP " + strconv.Itoa(*h.LastStatusCode)
	}
	return "-"
}

func orNone(text *string) string {
	if text == nil {
		return "-"
	}
	return *text
}

func shortened(text string) string {
	if runes := []rune(text); len(runes) > maxPayloadShown {
		return string(runes[:maxPayloadShown]) + "…"
	}
	return text
}

// nextAfter is where the next page begins: the parameter of the link to it; empty: there is none.
func nextAfter(header http.Header) string {
	link, rest, _ := strings.Cut(strings.TrimPrefix(header.Get("Link"), "<"), ">")
	next, err := url.Parse(link)
	if err != nil || !strings.Contains(rest, `rel="next"`) {
		return ""
	}
	return next.Query().Get("after")
}
