package operators

import (
	"net/http"
	"net/url"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

func (s *site) botsRoutes() {
	s.get("/ops/bots", s.listBots)
	s.get("/ops/bots/{id}", s.oneBot)
	s.get("/ops/bots/{id}/suspend", s.suspendForm)
	s.post("/ops/bots/{id}/suspend", s.suspend)
	s.post("/ops/bots/{id}/resume", s.resume)
	s.get("/ops/bots/{id}/delete", s.deleteBotForm)
	s.post("/ops/bots/{id}/delete", s.deleteBot)
	s.get("/ops/bots/{id}/keys/{key}/revoke", s.revokeForm)
	s.post("/ops/bots/{id}/keys/{key}/revoke", s.revoke)
	s.post("/ops/bots/{id}/sessions/{session}/end", s.endSession)
}

func botPath(id string) string { return Root + "/bots/" + url.PathEscape(id) }

// listPage is a part of a list.
type listPage[R any] struct {
	Rows     []R
	Filtered bool
	First    string // leads to the first page; empty: it is this
	Next     string // leads to the next page; empty: this is the last
	// Choices of the filter.
	States, Reasons, Classes, Sorts []string
}

// pageOf adds where a list leads.
func pageOf[R any](rows []R, query url.Values, next string, filters ...string) listPage[R] {
	p := listPage[R]{Rows: rows}
	kept := url.Values{}
	for _, name := range filters {
		if value := query.Get(name); value != "" {
			p.Filtered = true
			kept.Set(name, value)
		}
	}
	if query.Get("after") != "" {
		p.First = "?" + kept.Encode()
	}
	if next != "" {
		kept.Set("after", next)
		p.Next = "?" + kept.Encode()
	}
	return p
}

func (s *site) listBots(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	with := pages.Page{Title: "Bots", Nav: "bots", Form: pages.Form{Values: query}}
	rows, next, err := s.Ops.ListBots(r.Context(), ops.BotFilter{Search: query.Get("search"), State: query.Get("state"), After: query.Get("after")})
	data := pageOf(rows, query, next, "search", "state")
	data.States = ops.BotStates
	with.Data = data
	return s.listed(w, r, "bots", with, err)
}

// listed shows a list, or what is wrong with its filter.
func (s *site) listed(w http.ResponseWriter, r *http.Request, name string, with pages.Page, err error) error {
	if err == nil {
		return s.show(w, r, name, with)
	}
	form, status, ok := pages.FormOf(r, err)
	if !ok {
		return err
	}
	form.Values = with.Form.Values
	with.Form, with.Status = form, status
	return s.show(w, r, name, with)
}

// botPage is the page of a bot.
type botPage struct {
	ops.Bot
	NotifyHost string // of its notification URL, which may hold a token
	Keys       []bots.Key
	Sessions   []bots.PortalSession
	Hooks      []hookRow
	MoreHooks  bool
	Pauses     []history.Pause
}

func (s *site) oneBot(w http.ResponseWriter, r *http.Request) error {
	bot, err := s.Ops.Bot(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	data := botPage{Bot: bot}
	if bot.NotifyURL != nil {
		data.NotifyHost = webhook.HostOf(*bot.NotifyURL)
		data.NotifyURL = nil
	}
	if data.Keys, err = s.Bots.Keys(r.Context(), bot.ID); err != nil {
		return err
	}
	if data.Sessions, err = s.Bots.PortalSessions(r.Context(), bot.ID); err != nil {
		return err
	}
	hooks, next, err := s.Ops.ListWebhooks(r.Context(), ops.WebhookFilter{BotID: bot.ID})
	if err != nil {
		return err
	}
	data.Hooks, data.MoreHooks = hookRows(hooks), next != ""
	if data.Pauses, err = s.Webhooks.Pauses().OfBot(r.Context(), bot.ID); err != nil {
		return err
	}
	return s.show(w, r, "bot", pages.Page{Title: bot.Name, Nav: "bots", Data: data})
}

func (s *site) suspension(r *http.Request) (title string, c confirmation, err error) {
	bot, err := s.Bots.Get(r.Context(), r.PathValue("id"))
	return "Suspend " + bot.Name + "?", confirmation{
		Back: botPath(bot.ID), BackText: bot.Name, Action: botPath(bot.ID) + "/suspend", Button: "Suspend the bot", Danger: true,
		Text: []string{
			"It gets nothing any more: no event, retry, test, redelivery or recovery. Its keys and its portal answer that it is suspended.",
			"Its queues are emptied. Once it is active again, a recovery delivers what it missed.",
		},
		Reason: &question{"suspendedReason", "Reason", "The bot's developers read it. Empty: none is given."},
	}, err
}

func (s *site) suspendForm(w http.ResponseWriter, r *http.Request) error {
	title, c, err := s.suspension(r)
	if err != nil {
		return err
	}
	return s.confirm(w, r, title, c)
}

func (s *site) suspend(w http.ResponseWriter, r *http.Request) error {
	active := false
	_, err := s.Bots.Update(r.Context(), r.PathValue("id"), bots.Change{IsActive: &active, SuspendedReason: orNil(r.PostForm.Get("suspendedReason"))})
	if err != nil {
		title, c, missing := s.suspension(r)
		if missing != nil {
			return err
		}
		return s.confirmAgain(w, r, title, c, err)
	}
	return done(w, r, botPath(r.PathValue("id")), "suspended")
}

func (s *site) resume(w http.ResponseWriter, r *http.Request) error {
	active := true
	if _, err := s.Bots.Update(r.Context(), r.PathValue("id"), bots.Change{IsActive: &active}); err != nil {
		return err
	}
	return done(w, r, botPath(r.PathValue("id")), "resumed")
}

func (s *site) botDeletion(r *http.Request) (title string, c confirmation, err error) {
	bot, err := s.Bots.Get(r.Context(), r.PathValue("id"))
	return "Delete " + bot.Name + "?", confirmation{
		Back: botPath(bot.ID), BackText: bot.Name, Action: botPath(bot.ID) + "/delete", Button: "Delete the bot", Danger: true, Type: bot.ID,
		Text: []string{"Its webhooks, their histories and queues, its keys and its sessions go with it. This cannot be undone. To stop it for a while, suspend it."},
	}, err
}

func (s *site) deleteBotForm(w http.ResponseWriter, r *http.Request) error {
	title, c, err := s.botDeletion(r)
	if err != nil {
		return err
	}
	return s.confirm(w, r, title, c)
}

func (s *site) deleteBot(w http.ResponseWriter, r *http.Request) error {
	title, c, err := s.botDeletion(r)
	if err != nil {
		return err
	}
	if err := c.typed(r); err != nil {
		return s.confirmAgain(w, r, title, c, err)
	}
	if err := s.Bots.Delete(r.Context(), c.Type); err != nil {
		return err
	}
	return done(w, r, Root+"/bots", "bot-deleted")
}

func (s *site) revokeForm(w http.ResponseWriter, r *http.Request) error {
	id, err := web.ParseID(r.PathValue("key"))
	if err != nil {
		return err
	}
	keys, err := s.Bots.Keys(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	for _, key := range keys {
		if key.ID == id {
			return s.confirm(w, r, "Revoke the key "+key.Label()+"?", confirmation{
				Back: botPath(key.BotID), BackText: "Bot", Action: botPath(key.BotID) + "/keys/" + id.String() + "/revoke", Button: "Revoke the key", Danger: true,
				Text: []string{"It stops working at once, and the sessions that it made end. This cannot be undone."},
			})
		}
	}
	return pages.ErrNoPage
}

func (s *site) revoke(w http.ResponseWriter, r *http.Request) error {
	return s.remove(w, r, "key", "key-revoked", func(id uuid.UUID) error { return s.Bots.RevokeKey(r.Context(), r.PathValue("id"), id) })
}

func (s *site) endSession(w http.ResponseWriter, r *http.Request) error {
	return s.remove(w, r, "session", "session-ended", func(id uuid.UUID) error { return s.Bots.EndPortalSession(r.Context(), r.PathValue("id"), id) })
}

// remove removes a thing of a bot.
func (s *site) remove(w http.ResponseWriter, r *http.Request, name, message string, remove func(uuid.UUID) error) error {
	id, err := web.ParseID(r.PathValue(name))
	if err != nil {
		return err
	}
	if err := remove(id); err != nil {
		return err
	}
	return done(w, r, botPath(r.PathValue("id")), message)
}
