package portal

import (
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
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
	Disabled []disabledHook
	Filter   webhooksFilter
	States   []choice
	Types    []eventChoice
	Receiver string // to copy, where there is no webhook yet
}

// disabledHook is a webhook that failures have disabled, and what it has missed since: it can be delivered.
type disabledHook struct {
	webhookView
	Missed *history.Missed // nil: not counted
}

// missedCounted is of how many webhooks it is counted what they missed: each count looks at up to 5,000 events.
const missedCounted = 2

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
	work, err := p.History.Work(r.Context(), idsOfRows(rows))
	if err != nil {
		return err
	}
	for _, row := range rows {
		v := p.viewWith(row, work[row.ID])
		if v.ByFailures() {
			disabled := disabledHook{webhookView: v}
			if len(data.Disabled) < missedCounted {
				if disabled.Missed, err = p.missedSince(r, row); err != nil {
					return err
				}
			}
			data.Disabled = append(data.Disabled, disabled)
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
	summaries, err := p.History.Summaries(r.Context(), idsOf(rows))
	if err != nil {
		return err
	}
	for i := range rows {
		rows[i].Summary = summaries[rows[i].ID]
		rows[i].Spark = newSpark(rows[i].Summary.Hours)
	}
	return nil
}

func idsOfRows(rows []db.Webhook) []uuid.UUID {
	ids := make([]uuid.UUID, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids
}

// missedSince counts what a webhook has missed since it was disabled; nil: nobody knows since when.
func (p *portal) missedSince(r *http.Request, row db.Webhook) (*history.Missed, error) {
	if row.DisabledAt == nil {
		return nil, nil //nolint:nilnil // there is no count
	}
	// The span that a recovery has by itself, so that it delivers as many.
	span, err := p.Webhooks.Span(r.Context(), row, nil, nil, &problem.Faults{})
	if err != nil {
		return nil, err
	}
	missed, err := p.Webhooks.Missed(r.Context(), row, span)
	return &missed, err
}
