package portal

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/mathub/webhooks/db"
	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/subscriptions"
	"github.com/mathub/webhooks/internal/web"
	"github.com/mathub/webhooks/portal/snippets"
	"github.com/mathub/webhooks/webhook"
)

// What a form can say of the secret.
const (
	secretGenerated = "generated"
	secretOwn       = "own"
	secretNone      = "none"
)

// overlaps are how long a replaced secret can sign too.
var overlaps = []choice{{"0s", "It stops signing at once"}, {"24h", "24 hours"}, {"168h", "7 days"}}

func (p *portal) webhookFormRoutes() {
	p.get("/portal/webhooks/new", managers, p.newWebhook)
	p.post("/portal/webhooks", managers, p.createWebhook)
	p.get("/portal/webhooks/{id}/edit", managers, p.editWebhook)
	p.post("/portal/webhooks/{id}/edit", managers, p.updateWebhook)
	p.get("/portal/webhooks/{id}/rotate", managers, p.rotateForm)
	p.post("/portal/webhooks/{id}/rotate", managers, p.rotateSecret)
	p.post("/portal/webhooks/{id}/signing-key", managers, p.rotateKey)
	p.post("/portal/webhooks/{id}/signing-key/remove", managers, p.removeKey)
}

// webhookForm is the page that creates or changes a webhook.
type webhookForm struct {
	Webhook   *webhookView // nil: a new one
	Events    []eventChoice
	Filter    []filterRow
	Fields    []fieldGroup
	Preview   *history.Preview // nil: none was asked for
	NeedHTTPS bool
	Ordered   bool
	// Was is the webhook's version that the form was opened on; empty: a new one.
	Was string
}

// secretPage shows a secret once.
type secretPage struct {
	Webhook  webhookView
	Created  bool
	Secret   string // empty: the webhook has none
	Snippets []snippets.Snippet
	// Until is when the secret before stops signing; nil: it does not sign any more.
	Until *time.Time
	// DuplicateOf is another webhook that gets some of the same events at the same URL.
	DuplicateOf string
}

func (p *portal) newWebhook(w http.ResponseWriter, r *http.Request, s *session) error {
	return p.showForm(w, r, s, nil, form{}, http.StatusOK)
}

// showForm shows the form of a new webhook, or of one that there is.
func (p *portal) showForm(w http.ResponseWriter, r *http.Request, s *session, v *webhookView, f form, status int) error {
	return p.showFilled(w, r, s, v, f, status, nil)
}

// showFilled is showForm with what a preview of the filter says.
func (p *portal) showFilled(w http.ResponseWriter, r *http.Request, s *session, v *webhookView, f form, status int, preview *history.Preview) error {
	data := webhookForm{Webhook: v, Preview: preview, Filter: sentRows(f.Values), NeedHTTPS: !p.Webhooks.URLRules.AllowHTTP}
	title, chosen := "Create a webhook", f.Values["events"]
	if v != nil {
		title, data.Was = "Edit "+v.Title(), f.Value("was", v.Version())
		if f.Values == nil {
			chosen, data.Filter = v.Events, v.FilterRows()
		}
	}
	data.Events, data.Fields, data.Filter = eventChoices(chosen), fieldGroups(chosen), withRoom(data.Filter)
	if data.Ordered = f.Values.Get("ordered") != ""; v != nil && f.Values == nil {
		data.Ordered = v.Ordered
	}
	return p.show(w, r, s, "webhook_form", page{Title: title, Nav: "webhooks", Narrow: true, Data: data, Form: f, Status: status})
}

// readWebhook reads what both forms have.
func readWebhook(f url.Values) subscriptions.Input {
	address := f.Get("url")
	events := f["events"]
	if events == nil {
		events = []string{}
	}
	ordered := f.Get("ordered") != ""
	in := subscriptions.Input{URL: &address, Events: events, SetName: true, Ordered: &ordered}
	if name := strings.TrimSpace(f.Get("name")); name != "" {
		in.Name = &name
	}
	return in
}

// readHeaders reads which of the webhook's own headers a form sets, one a line, and removes.
func readHeaders(f url.Values) (map[string]*string, error) {
	headers := map[string]*string{}
	for _, name := range f["removeHeader"] {
		headers[name] = nil
	}
	for line := range strings.Lines(f.Get("headers")) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, value, ok := webhook.ParseHeaderLine(line)
		if !ok {
			return nil, webhook.Invalid("headers", "must be lines of the form Name: value")
		}
		if _, twice := headers[name]; twice {
			return nil, webhook.Invalid("headers", webhook.Shorten(name)+" is given twice")
		}
		headers[name] = &value
	}
	return headers, nil
}

// partsAsFields makes the faults of single headers, and of single fields of the filter, those of the form's one field for them.
func partsAsFields(err error) error {
	var wrong *webhook.InvalidError
	if !errors.As(err, &wrong) {
		return err
	}
	var faults problem.Faults
	for _, of := range wrong.Fields {
		for _, field := range []string{"headers", "filter"} {
			if name, single := strings.CutPrefix(of.Field, field+"."); single {
				of.Field, of.Message = field, name+" "+of.Message
			}
		}
		faults.Add(of.Field, of.Message)
	}
	return faults.Err()
}

func (p *portal) createWebhook(w http.ResponseWriter, r *http.Request, s *session) error {
	if r.PostForm.Has("preview") {
		return p.previewFilter(w, r, s, nil)
	}
	in := readWebhook(r.PostForm)
	secret, err := readSecret(r.PostForm)
	if err == nil {
		in.SetSecret, in.Secret = true, secret
	}
	var faults problem.Faults
	var headersErr error
	in.Headers, headersErr = readHeaders(r.PostForm)
	faults.Check(headersErr)
	faults.Check(setFilter(&in, r.PostForm, nil))
	faults.Check(in.Check(p.Webhooks.URLRules, true))
	faults.Check(err)
	if err = faults.Err(); err != nil {
		return p.showAgain(w, r, s, nil, err)
	}
	if err = p.once(r, s); err != nil {
		return err
	}
	made, duplicateOf, err := p.Webhooks.Create(r.Context(), s.BotID, in)
	if err != nil {
		return p.showAgain(w, r, s, nil, err)
	}
	data := secretPage{Webhook: p.viewOf(made), Created: true}
	if duplicateOf != nil {
		data.DuplicateOf = duplicateOf.String()
	}
	return p.showSecret(w, r, s, data, secret)
}

// showAgain shows the form with what is wrong with it.
func (p *portal) showAgain(w http.ResponseWriter, r *http.Request, s *session, v *webhookView, err error) error {
	f, status, ok := pages.FormOf(r, partsAsFields(err))
	if !ok {
		return err
	}
	return p.showForm(w, r, s, v, withoutSecrets(f), status)
}

// withoutSecrets takes out of a form what does not travel back.
func withoutSecrets(f form) form {
	f.Values.Del("secret")
	f.Values.Del("headers")
	return f
}

func (p *portal) showSecret(w http.ResponseWriter, r *http.Request, s *session, data secretPage, secret *string) error {
	if secret != nil {
		data.Secret, data.Snippets = *secret, snippets.With(*secret)
	}
	title := "The new secret"
	if data.Created {
		title = "The webhook was created"
	}
	return p.show(w, r, s, "secret", page{Title: title, Nav: "webhooks", Narrow: true, Data: data})
}

// readSecret is the secret that a form asks for; nil: none.
func readSecret(f url.Values) (*string, error) {
	var faults problem.Faults
	switch f.Get("kind") {
	case secretGenerated, "":
		secret := webhook.NewSecret()
		return &secret, nil
	case secretNone:
		if f.Get("unsigned") == "" {
			faults.Add("unsigned", "tick that you know: anyone can send your endpoint what looks like an event")
		}
		return nil, faults.Err()
	}
	secret := f.Get("secret")
	if secret == "" {
		faults.Add("secret", "is required")
	} else {
		faults.Check(webhook.ValidateSecret(secret))
	}
	return &secret, faults.Err()
}

// webhook finds the webhook of a path. Another bot's is not found.
func (p *portal) webhook(r *http.Request, s *session) (db.Webhook, error) {
	id, err := web.ParseID(r.PathValue("id"))
	if err != nil {
		return db.Webhook{}, err
	}
	return p.Webhooks.Get(r.Context(), s.BotID, id)
}

func (p *portal) editWebhook(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	v := p.viewOf(row)
	return p.showForm(w, r, s, &v, form{}, http.StatusOK)
}

// errStaleForm keeps a form that was opened before another change from undoing that: it sends every field.
var errStaleForm = &problem.Error{Kind: problem.Conflict, Detail: "The webhook was changed since you opened this form. Compare it with the webhook's page. If you save again, it becomes what this form says."}

func (p *portal) updateWebhook(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	v := p.viewOf(row)
	if r.PostForm.Has("preview") {
		return p.previewFilter(w, r, s, &v)
	}
	in := readWebhook(r.PostForm)
	in.IfStill = func(row db.Webhook) error {
		v = p.viewOf(row)
		if was := r.PostForm.Get("was"); was != "" && was != v.Version() {
			r.PostForm.Set("was", v.Version())
			return errStaleForm
		}
		return nil
	}
	if err = in.IfStill(row); err == nil { // before the form is found faulty
		in.Headers, err = readHeaders(r.PostForm)
	}
	if err == nil {
		err = setFilter(&in, r.PostForm, &v)
	}
	if err == nil {
		_, _, err = p.Webhooks.Update(r.Context(), row, in)
	}
	if err != nil {
		return p.showAgain(w, r, s, &v, err)
	}
	return done(w, r, webhookPath(row), "webhook-changed")
}

// rotation is the page that replaces a secret.
type rotation struct {
	Webhook  webhookView
	Overlaps []choice
}

func (p *portal) rotateForm(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	return p.showRotation(w, r, s, row, form{}, http.StatusOK)
}

func (p *portal) showRotation(w http.ResponseWriter, r *http.Request, s *session, row db.Webhook, f form, status int) error {
	v := p.viewOf(row)
	title := "Rotate the secret of " + v.Title()
	return p.show(w, r, s, "rotate", page{Title: title, Nav: "webhooks", Narrow: true, Data: rotation{v, overlaps}, Form: f, Status: status})
}

func (p *portal) rotateSecret(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	var faults problem.Faults
	in := subscriptions.Input{SetSecret: true}
	in.Secret, err = readSecret(r.PostForm)
	faults.Check(err)
	if in.Secret != nil && row.Secret != nil {
		if in.SecretOverlap, err = time.ParseDuration(r.PostForm.Get("overlap")); err != nil {
			faults.Add("overlap", "must be chosen")
		}
		in.IfNoOverlap = in.SecretOverlap > 0 && r.PostForm.Get("kind") != secretOwn
	}
	changed := row
	if err = faults.Err(); err == nil {
		err = p.once(r, s)
	}
	if err == nil {
		changed, _, err = p.Webhooks.Update(r.Context(), row, in)
	}
	if err != nil {
		f, status, ok := pages.FormOf(r, err)
		if !ok {
			return err
		}
		f.Values.Del("secret")
		return p.showRotation(w, r, s, row, f, status)
	}
	if in.Secret == nil {
		return done(w, r, webhookPath(row), "secret-removed")
	}
	return p.showSecret(w, r, s, secretPage{Webhook: p.viewOf(changed), Until: changed.PreviousSecretUntil}, in.Secret)
}

func (p *portal) rotateKey(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	if _, err := p.Webhooks.RotateKey(r.Context(), row, subscriptions.DefaultKeyOverlap); err != nil {
		return err
	}
	return done(w, r, webhookPath(row), "key-made")
}

func (p *portal) removeKey(w http.ResponseWriter, r *http.Request, s *session) error {
	row, err := p.webhook(r, s)
	if err != nil {
		return err
	}
	if _, err := p.Webhooks.RemoveKey(r.Context(), row); err != nil {
		return err
	}
	return done(w, r, webhookPath(row), "key-removed")
}
