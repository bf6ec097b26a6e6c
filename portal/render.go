package portal

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

//go:embed templates
var templateFiles embed.FS

// pages are the templates by name: each file but those of the layout, with the layout.
type pages map[string]*template.Template

// page is what a template gets. A template is a file templates/NAME.html that defines "main"; what it shows is .Data, and
// every link of it begins with {{$.Base}}.
type page struct {
	Title string
	// Nav is the entry of the navigation that the page belongs to: webhooks, deliveries, events or settings.
	Nav string
	// Data is the page's own.
	Data any
	// Form is what was sent and what is wrong with it.
	Form form
	// Narrow is for a page of a form.
	Narrow bool
	// Status defaults to 200.
	Status int

	// These are set by show.
	Base    string // such as /portal, or /x/portal behind a proxy
	Prefix  string // Base without /portal
	Session *session
	Message string          // the result of the action before
	Pauses  []history.Pause // of operators, that cover a webhook of the bot
	Theme   string          // light, dark or system
	Here    string          // the page's own path and query, for what comes back to it
	Version string
}

// form is a form's values, and by field what is wrong with them; "" is what is wrong with none in particular.
type form struct {
	Values url.Values
	Errors map[string]string
}

// Value is the field's, or a default where nothing was sent.
func (f form) Value(field, otherwise string) string {
	if f.Values == nil {
		return otherwise
	}
	return f.Values.Get(field)
}

// Has says whether a choice was sent.
func (f form) Has(field, value string) bool { return slices.Contains(f.Values[field], value) }

// formOf says what is wrong with a form. ok: err is about the input, so that the form is shown again with status.
func formOf(r *http.Request, err error) (f form, status int, ok bool) {
	e := problem.Of(err)
	f = form{Values: r.PostForm, Errors: map[string]string{}}
	for _, field := range e.Fields {
		name, _, _ := strings.Cut(field.Field, "[")
		if f.Errors[name] == "" {
			f.Errors[name] = field.Message
		}
	}
	switch e.Kind {
	case problem.Invalid:
	case problem.Conflict, problem.TooManyRequests, problem.Unauthorized:
		f.Errors[""] = e.Detail
	default:
		return f, 0, false
	}
	return f, web.Status(e.Kind), true
}

func (p *portal) newPages() (pages, error) {
	functions := template.FuncMap{
		"asset": p.assets.path,
		"time":  timeElement,
		"list":  func(items ...any) []any { return items },
	}
	layout, err := template.New("layout.html").Funcs(functions).ParseFS(templateFiles, "templates/layout.html", "templates/parts/*.html")
	if err != nil {
		return nil, err
	}
	all := pages{}
	files, err := fs.Glob(templateFiles, "templates/*.html")
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "layout" {
			continue
		}
		copied, err := layout.Clone()
		if err != nil {
			return nil, err
		}
		if all[name], err = copied.ParseFS(templateFiles, file); err != nil {
			return nil, err
		}
	}
	return all, err
}

// timeElement is a moment, in UTC; the module shows it in the reader's time, and keeps UTC in its title.
func timeElement(t any) template.HTML {
	var at time.Time
	switch t := t.(type) {
	case time.Time:
		at = t
	case *time.Time:
		if t != nil {
			at = *t
		}
	}
	if at.IsZero() {
		return "–"
	}
	text := template.HTMLEscapeString(webhook.FormatTime(at))
	return template.HTML(`<time datetime="` + text + `" title="` + text + `">` + at.UTC().Format("2006-01-02 15:04:05") + ` UTC</time>`) //nolint:gosec // digits
}

// show renders a page whole, so that an error leaves none half.
func (p *portal) show(w http.ResponseWriter, r *http.Request, s *session, name string, with page) error {
	with.Base, with.Prefix, with.Session, with.Theme, with.Version = base(r), prefix(r), s, theme(r), p.Version
	with.Here = r.URL.RequestURI()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		with.Here = ""
	}
	with.Message = messages[r.URL.Query().Get("done")]
	if s != nil {
		var err error
		if with.Pauses, err = p.Webhooks.Pauses().OfBot(r.Context(), s.BotID); err != nil {
			return err
		}
	}
	tmpl := p.pages[name]
	if tmpl == nil {
		return fmt.Errorf("there is no template %s", name)
	}
	var body bytes.Buffer
	if err := tmpl.ExecuteTemplate(&body, "layout.html", with); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	content := markInvisible(body.Bytes())
	header := w.Header()
	header.Set("Vary", "Cookie, Accept-Encoding")
	if r.Method == http.MethodGet && with.Status == 0 && answeredBefore(w, r, content) {
		return nil
	}
	header.Set("Content-Type", "text/html; charset=utf-8")
	content = packed(w, r, content)
	header.Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(max(with.Status, http.StatusOK))
	_, _ = w.Write(content) // its reader may be gone
	return nil
}

// packed compresses a page for who takes it so. What answers a form may show a secret beside what was sent, whose compressed
// length would tell of it.
func packed(w http.ResponseWriter, r *http.Request, content []byte) []byte {
	if r.Method == http.MethodPost || !web.TakesGzip(r.Header.Get("Accept-Encoding")) {
		return content
	}
	w.Header().Set("Content-Encoding", "gzip")
	return web.Gzip(content, gzip.DefaultCompression)
}

// unchanged answers 304 to a page that asks whether what it shows is still so. parts name what the page is made of, such as
// the newest delivery's number: they are cheaper to read than the page is to make.
func (p *portal) unchanged(w http.ResponseWriter, r *http.Request, s *session, parts ...any) bool {
	return answeredBefore(w, r, fmt.Appendln(nil, append([]any{p.Version, p.assets["portal.css"].hash, s.ID, s.Role, theme(r), r.URL.RequestURI()}, parts...)...))
}

// answeredBefore answers 304 where the client has an answer that is the same, by what it is made of. unchanged may have
// named that already.
func answeredBefore(w http.ResponseWriter, r *http.Request, madeOf []byte) bool {
	if w.Header().Get("ETag") == "" {
		sum := sha256.Sum256(madeOf)
		w.Header().Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:12])+`"`)
	}
	if r.Header.Get("If-None-Match") != w.Header().Get("ETag") {
		return false
	}
	w.WriteHeader(http.StatusNotModified)
	return true
}

// fail shows what is wrong. Who is not signed in is asked to.
func (p *portal) fail(w http.ResponseWriter, r *http.Request, s *session, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // nobody reads the answer
	}
	if errors.Is(err, bots.ErrNoSession) {
		p.askToSignIn(w, r)
		return
	}
	e := problem.Of(err)
	if e.Cause != nil {
		p.Logger.ErrorContext(r.Context(), "page failed", "request", w.Header().Get("X-Request-Id"), "method", r.Method, "route", r.Pattern, "error", e.Cause)
	}
	setRetryAfter(w, e)
	status := web.Status(e.Kind)
	shown := p.show(w, r, s, "error", page{Title: http.StatusText(status), Status: status, Narrow: true, Data: e.Error()})
	if shown != nil {
		p.Logger.ErrorContext(r.Context(), "page failed", "error", shown)
		http.Error(w, e.Detail, status)
	}
}

// setRetryAfter says when to come again, where that is worth a try.
func setRetryAfter(w http.ResponseWriter, e *problem.Error) {
	if e.Kind == problem.TooManyRequests || e.Kind == problem.Unavailable {
		w.Header().Set("Retry-After", strconv.Itoa(max(5, int(math.Ceil(e.RetryAfter.Seconds())))))
	}
}
