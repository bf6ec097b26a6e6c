package portal

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/audit"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/web"
)

func (p *portal) auditRoutes() { p.get("/portal/settings/audit", viewers, p.auditLog) }

// auditPage is a part of the log of who changed what, newest first.
type auditPage struct {
	Entries []auditEntry
	First   bool
	Next    string // the entry before which the next page begins; "": this is the last one
}

// auditEntry is a change as a page shows it.
type auditEntry struct {
	At     time.Time
	Action string
	Who    string
	Via    []auditSubject // the portal session that did it, and the link and the key that opened that
	Of     auditSubject
	Fields []pages.ChangedField
}

// auditSubject is what a change is about, or by.
type auditSubject struct {
	Kind, Name string
	ID         string // empty: the bot's own, or all of a kind
	Link       string // its page, while there is one
}

func (p *portal) auditLog(w http.ResponseWriter, r *http.Request, s *session) error {
	var before uuid.UUID
	if text := r.URL.Query().Get("before"); text != "" {
		before, _ = web.ParseID(text) // what is no entry is the newest
	}
	entries, more, err := p.Audit.ListOwn(r.Context(), s.BotID, before)
	if err != nil {
		return err
	}
	webhooks, _, err := p.Webhooks.List(r.Context(), s.BotID, uuid.Nil)
	if err != nil {
		return err
	}
	data := auditPage{First: before == uuid.Nil}
	for _, e := range entries {
		data.Entries = append(data.Entries, p.auditEntry(r, e, webhooks))
	}
	if more {
		data.Next = entries[len(entries)-1].ID.String()
	}
	return p.show(w, r, s, "audit", page{Title: "Who changed what", Nav: "settings", Data: data})
}

func (p *portal) auditEntry(r *http.Request, e audit.Entry, webhooks []db.Webhook) auditEntry {
	entry := auditEntry{At: e.At, Action: string(e.Action), Who: who(e.By), Of: subjectOf(e)}
	if e.By.Kind == audit.Portal {
		entry.Via = append(entry.Via, auditSubject{Kind: "session", ID: e.By.ID})
		if e.By.LinkID != uuid.Nil {
			entry.Via = append(entry.Via, auditSubject{Kind: "link", ID: e.By.LinkID.String()})
		}
		if e.By.KeyID != uuid.Nil {
			entry.Via = append(entry.Via, auditSubject{Kind: "key", ID: e.By.KeyID.String()})
		}
	}
	if i := slices.IndexFunc(webhooks, func(w db.Webhook) bool { return w.ID.String() == e.Subject }); i >= 0 {
		entry.Of.Name, entry.Of.Link = p.nameOf(webhooks[i]).Name, prefix(r)+webhookPath(webhooks[i])
	}
	entry.Fields = pages.ChangedFields(e.Before, e.After)
	return entry
}

// subjectOf is what a change is about, as far as its entry knows.
func subjectOf(e audit.Entry) auditSubject {
	noun, _, _ := strings.Cut(string(e.Action), ".")
	of := auditSubject{Kind: strings.ReplaceAll(noun, "_", " "), ID: e.Subject}
	if of.ID == "" {
		if of.Kind != "bot" {
			of.Kind = "all of the bot's sessions and links"
		}
		return of
	}
	for _, field := range []string{"name", "label", "prefix", "origin"} {
		of.Name = cmp.Or(of.Name, pages.InWords(e.After, field), pages.InWords(e.Before, field))
	}
	if noun == "recovery" || noun == "retries" {
		of.Kind = "webhook"
	}
	return of
}

// Short is the end of its id, which differs from those of others.
func (s auditSubject) Short() string { return s.ID[max(0, len(s.ID)-8):] }

// who is who made a change, as its bot may know it.
func who(a audit.Actor) string {
	switch a.Kind {
	case audit.Key:
		return "key " + a.Name
	case audit.Portal:
		return a.Name
	case audit.System:
		return "the service, by itself"
	}
	return "Mathub"
}
