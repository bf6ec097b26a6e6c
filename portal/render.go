package portal

import (
	"embed"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
)

//go:embed templates
var templateFiles embed.FS

type (
	page = pages.Page
	form = pages.Form
)

// shown is a page as its template gets it. Nav is webhooks, deliveries, events or settings.
type shown struct {
	page
	Session *session
	Pauses  []history.Pause // of operators, that cover a webhook of the bot
	Once    uuid.UUID       // what a form names that is sent once
}

// show renders a page.
func (p *portal) show(w http.ResponseWriter, r *http.Request, s *session, name string, with page) error {
	with.Base, with.Prefix, with.Theme, with.Version = base(r), prefix(r), pages.Theme(r), p.Version
	with.Here = r.URL.RequestURI()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		with.Here = ""
	}
	with.Message = messages[r.URL.Query().Get("done")]
	all := shown{page: with, Session: s, Once: uuid.New()}
	if s != nil {
		var err error
		if all.Pauses, err = p.Webhooks.Pauses().OfBot(r.Context(), s.BotID); err != nil {
			return err
		}
	}
	return p.pages.Show(w, r, name, all, with.Status)
}

// errSentAgain answers a page that is loaded again, which sends its form once more.
var errSentAgain = &problem.Error{Kind: problem.Conflict, Detail: "This form was sent before, and does nothing more. Open it anew to make another."}

// once refuses a form that makes a thing each time, and was sent before.
func (p *portal) once(r *http.Request, s *session) error {
	form, err := uuid.Parse(r.PostForm.Get("once"))
	if err != nil { // it does not come from a page of ours
		return nil //nolint:nilerr // and is not sent by a browser's reload
	}
	isNew, err := p.Bots.TakePortalForm(r.Context(), s.ID, form)
	if err == nil && !isNew {
		err = errSentAgain
	}
	return err
}

// unchanged answers 304 to a page that asks whether what it shows is still so. parts name what the page is made of, such as
// the newest delivery's number: they are cheaper to read than the page is to make.
func (p *portal) unchanged(w http.ResponseWriter, r *http.Request, s *session, parts ...any) bool {
	return pages.AnsweredBefore(w, r, fmt.Appendln(nil, append([]any{p.Version, pages.AssetPath("portal.css"), s.ID, s.Role, pages.Theme(r), r.URL.RequestURI()}, parts...)...))
}

// fail shows what is wrong. Who is not signed in is asked to.
func (p *portal) fail(w http.ResponseWriter, r *http.Request, s *session, err error) {
	if web.HasHungUp(r, err) {
		w.WriteHeader(web.HungUp)
		return
	}
	if errors.Is(err, bots.ErrNoSession) {
		p.askToSignIn(w, r)
		return
	}
	e := problem.In(r.Context(), err)
	if e.Cause != nil {
		p.Logger.ErrorContext(r.Context(), "page failed", "request", w.Header().Get("X-Request-Id"), "method", r.Method, "route", r.Pattern, "error", e.Cause)
	}
	pages.SetRetryAfter(w, e)
	status := web.Status(e.Kind)
	shown := p.show(w, r, s, "error", page{Title: http.StatusText(status), Status: status, Narrow: true, Data: e.Error()})
	if shown != nil {
		p.Logger.ErrorContext(r.Context(), "page failed", "error", shown)
		http.Error(w, e.Detail, status)
	}
}
