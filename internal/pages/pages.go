// Package pages is what server-rendered pages are made with: those of bot developers (package portal) and those of operators
// (package operators). It has their style sheet and module, the templates that they share, their policies, and how a form and
// an error are shown.
package pages

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io/fs"
	"math"
	"net/http"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/webhook"
)

//go:embed templates
var templateFiles embed.FS

// ErrOtherOrigin is the answer to a form of another site's page.
var ErrOtherOrigin = &problem.Error{Kind: problem.Forbidden, Detail: "This request came from another site. Nothing was changed."}

// Page is what a template gets. What it shows is .Data, and every link of it begins with {{$.Base}}.
type Page struct {
	Title string
	// Nav is the entry of the navigation that the page belongs to.
	Nav string
	// Data is the page's own.
	Data any
	// Form is what was sent and what is wrong with it.
	Form Form
	// Narrow is for a page of a form.
	Narrow bool
	// Status defaults to 200.
	Status int

	// These are set when the page is shown.
	Base    string // such as /portal, or /x/portal behind a proxy
	Prefix  string // what a proxy has cut off Base
	Message string // the result of the action before
	Theme   string // light, dark or system
	Here    string // the page's own path and query, for what comes back to it
	Version string
}

// Set are templates by name: each file but those of the layout, with the layout.
type Set map[string]*template.Template

// NewSet reads templates/NAME.html, each of which defines "main", with templates/layout.html and the parts: those in
// templates/parts and the shared ones.
func NewSet(files fs.FS) (Set, error) {
	functions := template.FuncMap{
		"asset":   AssetPath,
		"time":    timeElement,
		"moments": moments,
		"list":    func(items ...any) []any { return items },
	}
	layout, err := template.New("layout.html").Funcs(functions).ParseFS(templateFiles, "templates/*.html")
	if err != nil {
		return nil, err
	}
	if layout, err = layout.ParseFS(files, "templates/layout.html"); err != nil {
		return nil, err
	}
	parts, err := fs.Glob(files, "templates/parts/*.html")
	if err == nil && len(parts) > 0 {
		layout, err = layout.ParseFS(files, parts...)
	}
	if err != nil {
		return nil, err
	}
	all := Set{}
	names, err := fs.Glob(files, "templates/*.html")
	for _, file := range names {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "layout" {
			continue
		}
		copied, err := layout.Clone()
		if err != nil {
			return nil, err
		}
		if all[name], err = copied.ParseFS(files, file); err != nil {
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

// momentText is a time as the API writes it.
var momentText = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)

// moments is a text with its times as timeElement has them, for text that the command line shows too.
func moments(text string) template.HTML {
	var b strings.Builder
	from := 0
	for _, place := range momentText.FindAllStringIndex(text, -1) {
		at, err := time.Parse(time.RFC3339, text[place[0]:place[1]])
		if err != nil {
			continue // such as of a 13th month, which someone wrote as a reason
		}
		b.WriteString(template.HTMLEscapeString(text[from:place[0]]))
		b.WriteString(string(timeElement(at)))
		from = place[1]
	}
	b.WriteString(template.HTMLEscapeString(text[from:]))
	return template.HTML(b.String()) //nolint:gosec // each part is escaped
}

// Show renders a page whole, so that an error leaves none half. status defaults to 200.
func (s Set) Show(w http.ResponseWriter, r *http.Request, name string, data any, status int) error {
	tmpl := s[name]
	if tmpl == nil {
		return fmt.Errorf("there is no template %s", name)
	}
	var body bytes.Buffer
	if err := tmpl.ExecuteTemplate(&body, "layout.html", data); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	content := markInvisible(body.Bytes())
	header := w.Header()
	header.Set("Vary", "Cookie, Accept-Encoding")
	if r.Method == http.MethodGet && status == 0 && AnsweredBefore(w, r, content) {
		return nil
	}
	header.Set("Content-Type", "text/html; charset=utf-8")
	content = packed(w, r, content)
	header.Set("Content-Length", strconv.Itoa(len(content)))
	w.WriteHeader(max(status, http.StatusOK))
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

// AnsweredBefore answers 304 where the client has an answer that is the same, by what it is made of. It may have been named
// before the page was made.
func AnsweredBefore(w http.ResponseWriter, r *http.Request, madeOf []byte) bool {
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

// SetRetryAfter says when to come again, where that is worth a try.
func SetRetryAfter(w http.ResponseWriter, e *problem.Error) {
	if e.Kind == problem.TooManyRequests || e.Kind == problem.Unavailable {
		w.Header().Set("Retry-After", strconv.Itoa(max(5, int(math.Ceil(e.RetryAfter.Seconds())))))
	}
}

// Guard adds to pages what holds for all: nothing is changed from another origin (refused answers that), and their headers.
// policy is of Policy.
func Guard(next http.Handler, policy string, refused http.HandlerFunc) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(refused)
	guarded := protection.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Referrer-Policy", "no-referrer")
		header.Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, MaxForm)
		guarded.ServeHTTP(w, r)
	})
}
