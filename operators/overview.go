package operators

import (
	"net/http"
	"net/url"
	"time"

	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/webhook"
)

// overviewPage is what is wrong now.
type overviewPage struct {
	At    time.Time
	Wrong []finding // what is to be fixed
	Look  []finding // what is not wrong, but may be of interest
	Fine  []finding // of what there is none
	UI    string    // Temporal's Web UI; empty: it is not known where that is
}

// finding is what one question came to, and where more of it is.
type finding struct {
	ops.Finding
	Link, LinkText string
	Undo           string // leads to undoing it, as an incident of ours; "": it cannot be
}

// State is its badge.
func (f finding) State() badge {
	if f.IsWrong {
		return badge{"bad", "Wrong"}
	}
	return badge{"wait", "Look"}
}

// badge is a state: its class, and its word.
type badge struct{ Class, Word string }

// links lead from a finding to what can be done about it.
var links = map[string][2]string{
	"disabled":   {"/webhooks?disabledReason=failures", "Webhooks that failures disabled"},
	"failing":    {"/webhooks?state=failing", "Failing webhooks"},
	"late":       {"/late", "What is late"},
	"waiting":    {"/webhooks?sort=waiting", "Queues, the longest first"},
	"slow":       {"/late", "What is late"},
	"suspended":  {"/bots?state=suspended", "Suspended bots"},
	"paused":     {"/pauses", "Pauses"},
	"recoveries": {"/incidents", "Incidents"},
	"incidents":  {"/incidents", "Incidents"},
}

func (s *site) overview(w http.ResponseWriter, r *http.Request) error {
	found, err := s.Ops.Overview(r.Context())
	if err != nil {
		return err
	}
	data := overviewPage{At: found.At, UI: s.Ops.UI.URL}
	for _, f := range found.Findings {
		to := links[f.Name]
		shown := finding{Finding: f, Link: to[0], LinkText: to[1]}
		if f.Name == "disabled" && f.IsWrong {
			shown.Undo = planPath(url.Values{"disabledSince": {webhook.FormatTime(found.At.Add(-ops.DisabledSpan))}})
		}
		switch {
		case f.IsWrong:
			data.Wrong = append(data.Wrong, shown)
		case f.Count > 0:
			data.Look = append(data.Look, shown)
		default:
			data.Fine = append(data.Fine, shown)
		}
	}
	return s.show(w, r, "overview", pages.Page{Title: "What is wrong now", Nav: "", Data: data})
}

// latePage is what is late.
type latePage struct {
	ops.Late
	Queues []hookRow
}

func (s *site) late(w http.ResponseWriter, r *http.Request) error {
	found, err := s.Ops.Late(r.Context(), ops.DefaultLate)
	if err != nil {
		return err
	}
	return s.show(w, r, "late", pages.Page{Title: "What is late", Data: latePage{found, hookRows(found.Queues)}})
}
