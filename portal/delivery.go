package portal

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

// deliveryPage is what the page of one delivery shows.
type deliveryPage struct {
	Webhook  hookName
	ID       uuid.UUID
	EventID  string
	Type     string // as sent
	Trigger  string
	Attempt  int
	At       time.Time
	Ms       int
	Outcome  outcome
	Status   string
	What, Do string // what happened, and what to do about it

	Attempts []attemptItem
	More     bool // there are older ones
	Next     *subscriptions.NextAttempt
	IsDue    bool

	URL        string
	Request    []header
	Body       bodyView
	Response   []header
	Answer     bodyView
	Answered   bool // a response came
	Arrived    bool // it was asked for by a person, and delivered
	Dropped    bool // response, headers and timings are no longer kept
	Timings    []timing
	Curl       string
	Raw        bool
	Other      string // the link to the other form of the bodies
	IsDisabled bool
}

// attemptItem is an attempt in the event's timeline.
type attemptItem struct {
	ID      uuid.UUID
	Number  int
	At      time.Time
	Outcome outcome
	Ms      int
	Trigger string
	IsThis  bool
}

type header struct{ Name, Value string }

// bodyView is a body as text.
type bodyView struct {
	Text   string
	Bytes  int
	IsCut  bool // it is only the first part
	IsDeep bool // indented, it would be too long, so that it stands as it came
}

// timing is a bar: from and how long, in thousandths of the whole.
type timing struct {
	Name        string
	From, Width int
	Ms          string
	Class       string
}

// maxAttemptsShown is how many attempts a timeline has.
const maxAttemptsShown = 20

func (p *portal) delivery(w http.ResponseWriter, r *http.Request, s *session) error {
	hook, row, err := p.deliveryOf(r, s)
	if err != nil {
		return err
	}
	data, err := p.deliveryPage(r, hook, row)
	if err != nil {
		return err
	}
	var planned any
	if data.Next != nil && !data.IsDue {
		planned = *data.Next
	}
	if p.unchanged(w, r, s, row.ID, data.Attempts, planned, data.IsDue, data.IsDisabled, data.Webhook) {
		return nil
	}
	return p.show(w, r, s, "delivery", page{Title: "Delivery of " + data.Type, Nav: "deliveries", Data: data})
}

// deliveryOf is the delivery of the path.
func (p *portal) deliveryOf(r *http.Request, s *session) (hook db.Webhook, row db.GetDeliveriesRow, err error) {
	if hook, err = p.webhook(r, s); err != nil {
		return hook, row, err
	}
	id, err := web.ParseID(r.PathValue("deliveryID"))
	if err != nil {
		return hook, row, err
	}
	row, err = p.History.Delivery(r.Context(), hook.ID, id)
	return hook, row, err
}

func (p *portal) deliveryPage(r *http.Request, hook db.Webhook, row db.GetDeliveriesRow) (data deliveryPage, err error) {
	sent := webhook.SentType(webhook.EventType(row.EventType), row.Payload)
	data = deliveryPage{
		Webhook: p.nameOf(hook), ID: row.ID, EventID: row.EventID, Type: string(sent), Trigger: string(row.Trigger), Attempt: int(row.Attempt),
		At: row.AttemptedAt, Ms: int(row.DurationMs), Outcome: outcomeOf(row.Success, row.Error), Status: statusText(row.StatusCode),
		Answered: row.StatusCode != nil, Dropped: row.Exchange == nil, IsDisabled: !hook.IsActive, Arrived: row.Success && webhook.Trigger(row.Trigger).Manual(), Raw: r.URL.Query().Get("view") == "raw",
	}
	data.Other = "?view=raw"
	if data.Raw {
		data.Other = "?"
	}
	data.Body, data.Answer = viewOf(row.Payload, data.Raw), viewOf(row.ResponseBody, data.Raw)
	data.Answer.IsCut = len(row.ResponseBody) >= webhook.MaxResponseBody
	if data.URL, err = p.Webhooks.URL(hook); err != nil {
		data.URL = hook.Origin // as in the list
	}
	if row.Exchange != nil {
		x, err := history.DecodeExchange(row.Exchange, webhook.Delivery{ID: row.ID, EventID: row.EventID, Type: sent})
		if err != nil {
			return data, err
		}
		data.Request, data.Response, data.Timings = headersOf(x.Request), headersOf(x.Response), timingsOf(x)
	}
	data.Curl = curlOf(data.URL, data.Request, row.Payload)
	if err := p.addTimeline(r, hook, row, &data); err != nil {
		return data, err
	}
	data.What, data.Do = explain(row, data.Next)
	return data, nil
}

// addTimeline adds the event's attempts at the webhook, and the next one.
func (p *portal) addTimeline(r *http.Request, hook db.Webhook, row db.GetDeliveriesRow, data *deliveryPage) (err error) {
	attempts, older, err := p.History.List(r.Context(), []uuid.UUID{hook.ID}, history.Filter{EventID: row.EventID, Before: history.Newest, Limit: maxAttemptsShown})
	if err != nil {
		return err
	}
	for _, a := range slices.Backward(attempts) {
		data.Attempts = append(data.Attempts, attemptItem{
			ID: a.ID, Number: int(a.Attempt), At: a.AttemptedAt, Outcome: outcomeOf(a.Success, a.Error), Ms: int(a.DurationMs), Trigger: string(a.Trigger), IsThis: a.ID == row.ID,
		})
	}
	data.More = older != 0
	if data.Next, err = p.Webhooks.NextAttempt(r.Context(), hook, row.EventID); err == nil && data.Next != nil {
		data.IsDue = !data.Next.At.After(time.Now())
	}
	return err
}

// redeliver sends the event of a delivery once more, and shows how that went.
func (p *portal) redeliver(w http.ResponseWriter, r *http.Request, s *session) error {
	hook, row, err := p.deliveryOf(r, s)
	if err != nil {
		return err
	}
	made, err := p.Webhooks.Redeliver(r.Context(), hook, row.ID)
	if err != nil {
		return err
	}
	return p.showSent(w, r, made, "redelivered", "redelivery-failed")
}

// attemptNow makes the event's planned attempt due.
func (p *portal) attemptNow(w http.ResponseWriter, r *http.Request, s *session) error {
	hook, row, err := p.deliveryOf(r, s)
	if err != nil {
		return err
	}
	n, err := p.Webhooks.RetryNow(r.Context(), hook, row.EventID)
	if err != nil {
		return err
	}
	message := "attempt-due"
	if n == 0 {
		message = "nothing-waits"
	}
	return done(w, r, deliveryPath(row), message)
}

// viewOf is a body as text, JSON indented unless it is to be raw. Digits, escapes and the order of members stay.
func viewOf(body []byte, raw bool) bodyView {
	v := bodyView{Text: string(body), Bytes: len(body)}
	if !raw && json.Valid(body) {
		pretty, ok := webhook.Indented(body)
		if v.IsDeep = !ok; ok {
			v.Text = string(pretty)
		}
	}
	if !utf8.ValidString(v.Text) {
		v.Text = strings.ToValidUTF8(v.Text, "\uFFFD")
	}
	return v
}

func headersOf(h http.Header) (fields []header) {
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			fields = append(fields, header{strings.ToValidUTF8(name, "\uFFFD"), strings.ToValidUTF8(value, "\uFFFD")})
		}
	}
	return fields
}

// timingsOf are the phases of an exchange, one after the other. A phase that did not happen is left out.
func timingsOf(x history.Exchange) (bars []timing) {
	if x.Total <= 0 {
		return nil
	}
	t := x.Timings
	var at time.Duration
	add := func(name, class string, d time.Duration) {
		if d > 0 {
			from := int(1000 * at / x.Total)
			bars = append(bars, timing{name, min(from, 995), max(5, min(1000-from, int(1000*d/x.Total))), fmt.Sprintf("%.1f", float64(d.Microseconds())/1000), class})
			at += d
		}
	}
	add("DNS", "f-info", t.DNS)
	add("Connect", "f-wait", t.Connect)
	add("TLS", "f-off", t.TLS)
	if t.FirstByte > 0 {
		add("Waiting for the first byte", "f-ok", t.FirstByte-at)
	}
	add("Reading, or until it failed", "f-info", x.Total-at)
	return bars
}

// mostInCommand is how large a body a command line can have.
const mostInCommand = 100_000

// CurlReadsFile says that the body is too long for a command line.
func (d deliveryPage) CurlReadsFile() bool { return d.Body.Bytes > mostInCommand }

// curlOf is the request as a command, without the signatures, which are not kept. One that was not kept has what all have.
func curlOf(to string, request []header, body []byte) string {
	var b strings.Builder
	b.WriteString("curl -g -i -X POST " + quote(to))
	if len(request) == 0 {
		request = []header{{"Content-Type", "application/json"}}
	}
	for _, h := range request {
		b.WriteString(" \\\n  -H " + quote(h.Name+": "+h.Value))
	}
	if len(body) > mostInCommand {
		b.WriteString(" \\\n  --data-binary @body.json") // CurlReadsFile
	} else {
		b.WriteString(" \\\n  --data-raw " + quote(string(body)))
	}
	return b.String()
}

// quote is a word of a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
