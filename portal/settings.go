package portal

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/delivery"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

const settingsPath = "/portal/settings"

func (p *portal) settingsRoutes() {
	p.get(settingsPath, viewers, p.settings)
	p.post("/portal/settings/notify", managers, p.setNotify)
	p.send("/portal/settings/notify-test", p.testNotify)
	p.post("/portal/settings/notify-secret", managers, p.rotateNotify)
	p.post("/portal/settings/keys", managers, p.addKey)
	p.post("/portal/settings/keys/{id}/revoke", managers, p.revokeKey)
	p.post("/portal/settings/sessions/{id}/end", managers, p.endSession)
}

// settingsPage is what the page of settings shows.
type settingsPage struct {
	Bot      bots.Bot
	Keys     []bots.Key
	Sessions []bots.PortalSession
	Used     []usage
	Tested   *testedNotify // what a test notification came to; nil: none was sent just now
}

// testedNotify says what became of a test notification.
type testedNotify struct{ Class, What, Do string }

// usage is how much of a limit a bot uses.
type usage struct {
	What      string
	Used, Max int
}

// shownOnce is what is never shown again.
type shownOnce struct {
	What, Text, Hint string
}

func (p *portal) settings(w http.ResponseWriter, r *http.Request, s *session) error {
	return p.showSettings(w, r, s, settingsPage{}, form{}, 0)
}

// showSettings adds to data what the page always shows.
func (p *portal) showSettings(w http.ResponseWriter, r *http.Request, s *session, data settingsPage, f form, status int) (err error) {
	if data.Bot, err = p.Bots.Get(r.Context(), s.BotID); err != nil {
		return err
	}
	if data.Keys, err = p.Bots.Keys(r.Context(), s.BotID); err != nil {
		return err
	}
	if data.Sessions, err = p.Bots.PortalSessions(r.Context(), s.BotID); err != nil {
		return err
	}
	webhooks, _, err := p.Webhooks.List(r.Context(), s.BotID, uuid.Nil)
	if err != nil {
		return err
	}
	data.Used = []usage{{"Webhooks", len(webhooks), p.Webhooks.MaxWebhooksPerBot}, {"Keys", len(data.Keys), webhook.MaxKeysPerBot}}
	return p.show(w, r, s, "settings", page{Title: "Settings", Nav: "settings", Data: data, Form: f, Status: status})
}

// badSettings shows the form again with what is wrong with it.
func (p *portal) badSettings(w http.ResponseWriter, r *http.Request, s *session, err error) error {
	f, status, ok := pages.FormOf(r, err)
	if !ok {
		return err
	}
	return p.showSettings(w, r, s, settingsPage{}, f, status)
}

// setNotify sets where the bot's owner is notified of webhooks that fail. A secret that had to be made is shown once.
func (p *portal) setNotify(w http.ResponseWriter, r *http.Request, s *session) error {
	if !r.PostForm.Has("notifyUrl") {
		return p.badSettings(w, r, s, webhook.Invalid("notifyUrl", "is required; an empty one removes the URL"))
	}
	url := strings.TrimSpace(r.PostForm.Get("notifyUrl"))
	change := bots.Change{NotifyChange: bots.NotifyChange{SetURL: true}}
	if url != "" {
		change.URL = &url
	}
	bot, err := p.Bots.Update(r.Context(), s.BotID, change)
	if err != nil {
		return p.badSettings(w, r, s, err)
	}
	if bot.NotifySecret == nil {
		return done(w, r, settingsPath, "notify-changed")
	}
	return p.showOnce(w, r, s, shownOnce{"Notification secret", *bot.NotifySecret, "It signs notifications of webhooks that fail."})
}

// testNotify sends a test notification, and says what the receiver answered.
func (p *portal) testNotify(w http.ResponseWriter, r *http.Request, s *session) error {
	result, err := p.Webhooks.TestNotification(r.Context(), s.BotID)
	if err != nil {
		pages.SetRetryAfter(w, problem.Of(err))
		return p.badSettings(w, r, s, err)
	}
	tested := testedNotify{Class: "ok", What: fmt.Sprintf("The test notification arrived: your endpoint answered HTTP %d.", result.StatusCode)}
	if result.Status != delivery.Delivered {
		a := adviceOf(result.Error, result.StatusCode)
		tested = testedNotify{Class: "bad", What: "The test notification failed: " + a.what + " (" + result.Error + ")."}
		if result.StatusCode == 0 { // what to do about a status is said of webhooks
			tested.Do = a.do
		}
	}
	return p.showSettings(w, r, s, settingsPage{Tested: &tested}, form{}, 0)
}

// rotateNotify makes a new secret for notifications.
func (p *portal) rotateNotify(w http.ResponseWriter, r *http.Request, s *session) error {
	if err := p.once(r, s); err != nil {
		return err
	}
	secret := webhook.NewSecret()
	if _, err := p.Bots.Update(r.Context(), s.BotID, bots.Change{NotifyChange: bots.NotifyChange{Secret: &secret}}); err != nil {
		return p.badSettings(w, r, s, err)
	}
	return p.showOnce(w, r, s, shownOnce{"Notification secret", secret, "It signs notifications from now on. The previous one signs none."})
}

func (p *portal) addKey(w http.ResponseWriter, r *http.Request, s *session) error {
	if err := p.once(r, s); err != nil {
		return err
	}
	_, secret, err := p.Bots.CreateKey(r.Context(), s.BotID, strings.TrimSpace(r.PostForm.Get("name")))
	if err != nil {
		return p.badSettings(w, r, s, err)
	}
	return p.showOnce(w, r, s, shownOnce{"Bot key", secret, "Whoever has it can do all that your bot can."})
}

// showOnce answers with a secret: a redirect to a page could not show it.
func (p *portal) showOnce(w http.ResponseWriter, r *http.Request, s *session, what shownOnce) error {
	return p.show(w, r, s, "once", page{Title: what.What, Nav: "settings", Narrow: true, Data: what})
}

// revokeKey ends a key, and with it the sessions that it made: it may be this one.
func (p *portal) revokeKey(w http.ResponseWriter, r *http.Request, s *session) error {
	id, err := web.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := p.Bots.RevokeKey(r.Context(), s.BotID, id); err != nil {
		return err
	}
	if id == s.KeyID {
		p.setCookie(w, r, "")
		return done(w, r, root, "key-revoked")
	}
	return done(w, r, settingsPath, "key-revoked")
}

func (p *portal) endSession(w http.ResponseWriter, r *http.Request, s *session) error {
	id, err := web.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := p.Bots.EndPortalSession(r.Context(), s.BotID, id); err != nil {
		return err
	}
	if id == s.ID {
		p.setCookie(w, r, "")
		return done(w, r, root, "signed-out")
	}
	return done(w, r, settingsPath, "session-ended")
}
