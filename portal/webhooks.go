package portal

import (
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/portal/snippets"
)

const webhooksPath = "/portal/webhooks"

func (p *portal) webhooksRoutes() {
	p.get("/portal/webhooks", viewers, p.webhooks)
	p.webhookFormRoutes()
	p.webhookRoutes()
}

// webhooksPage is the list of a bot's webhooks.
type webhooksPage struct {
	Rows     []webhookView
	Total    int
	Disabled []webhookView // by failures: what they missed can be delivered
	Filter   webhooksFilter
	States   []choice
	Types    []eventChoice
	Receiver string // to copy, where there is no webhook yet
}

// webhooksFilter says which webhooks are wanted; what is empty, any.
type webhooksFilter struct{ Search, State, Type string }

// Any says whether it leaves anything out.
func (f webhooksFilter) Any() bool { return f != webhooksFilter{} }

func (f webhooksFilter) takes(v webhookView) bool {
	search := strings.ToLower(f.Search)
	return (search == "" || strings.Contains(strings.ToLower(v.Title()+"\n"+v.URL+"\n"+v.ID.String()), search)) &&
		(f.State == "" || f.State == v.stateKey) && (f.Type == "" || slices.Contains(v.Events, f.Type))
}

// webhooks is the first page: the bot's webhooks and how they are.
func (p *portal) webhooks(w http.ResponseWriter, r *http.Request, s *session) error {
	rows, _, err := p.Webhooks.List(r.Context(), s.BotID, uuid.Nil)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	data := webhooksPage{
		Total: len(rows), States: states, Types: eventChoices(nil), Receiver: snippets.With("")[0].Code,
		Filter: webhooksFilter{Search: strings.TrimSpace(q.Get("q")), State: q.Get("state"), Type: q.Get("type")},
	}
	for _, row := range rows {
		v := p.viewOf(row)
		if v.ByFailures() {
			data.Disabled = append(data.Disabled, v)
		}
		if data.Filter.takes(v) {
			data.Rows = append(data.Rows, v)
		}
	}
	if err := p.summarize(r, data.Rows); err != nil {
		return err
	}
	return p.show(w, r, s, "webhooks", page{Title: "Webhooks", Nav: "webhooks", Data: data})
}

// summarize says how webhooks have been doing.
func (p *portal) summarize(r *http.Request, rows []webhookView) error {
	ids := make([]uuid.UUID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	summaries, err := p.History.Summaries(r.Context(), ids)
	if err != nil {
		return err
	}
	for i := range rows {
		rows[i].Summary = summaries[rows[i].ID]
		rows[i].Spark = newSpark(rows[i].Summary.Hours)
	}
	return nil
}
