package operators

import (
	"net/http"
	"strings"
	"time"

	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

// auditEntry is a change as a page shows it.
type auditEntry struct {
	At                                  time.Time
	Action, Who, Client, BotID, Subject string
	Link                                string // to what was changed; empty: nowhere
	Fields                              []pages.ChangedField
}

func (s *site) auditLog(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	with := pages.Page{Title: "Who changed what", Nav: "audit", Form: pages.Form{Values: query}}
	bot := webhook.CanonicalID(strings.TrimSpace(query.Get("botId")))
	if bot != "" && !webhook.ValidID(bot) {
		with.Data = listPage[auditEntry]{}
		return s.listed(w, r, "audit", with, webhook.Invalid("botId", "must be the id of a bot"))
	}
	before, _ := web.ParseID(query.Get("after")) // what is no entry is the newest
	entries, more, err := s.Audit.List(r.Context(), bot, before)
	if err != nil {
		return err
	}
	rows, next := make([]auditEntry, len(entries)), ""
	for i, e := range entries {
		rows[i] = auditEntry{At: e.At, Action: string(e.Action), Who: who(e.By), Client: e.By.Client, BotID: e.BotID, Subject: e.Subject, Link: linkOf(e), Fields: pages.ChangedFields(e.Before, e.After)}
		if more {
			next = e.ID.String()
		}
	}
	with.Data = pageOf(rows, query, next, "botId")
	return s.show(w, r, "audit", with)
}

// linkOf leads to what an entry is about; it may be gone.
func linkOf(e audit.Entry) string {
	noun, _, _ := strings.Cut(string(e.Action), ".")
	id, err := web.ParseID(e.Subject)
	switch {
	case err == nil && (noun == "webhook" || noun == "recovery" || noun == "retries"):
		return hookPath(id)
	case err == nil && noun == "incident":
		return incidentPath(id)
	case e.BotID != "":
		return botPath(e.BotID)
	}
	return ""
}
