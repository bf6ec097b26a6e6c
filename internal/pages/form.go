package pages

import (
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mathub/webhooks/internal/problem"
	"github.com/mathub/webhooks/internal/web"
)

// MaxForm bounds a form: a secret, a URL, and choices.
const MaxForm = 64 << 10

// Form is a form's values, and by field what is wrong with them; "" is what is wrong with none in particular.
type Form struct {
	Values url.Values
	Errors map[string]string
}

// Value is the field's, or a default where nothing was sent.
func (f Form) Value(field, otherwise string) string {
	if f.Values == nil {
		return otherwise
	}
	return f.Values.Get(field)
}

// Has says whether a choice was sent.
func (f Form) Has(field, value string) bool { return slices.Contains(f.Values[field], value) }

// FormOf says what is wrong with a form. ok: err is about the input, so that the form is shown again with status.
func FormOf(r *http.Request, err error) (f Form, status int, ok bool) {
	e := problem.Of(err)
	f = Form{Values: r.PostForm, Errors: map[string]string{}}
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

// ParseForm reads the form of an action.
func ParseForm(r *http.Request) error {
	if mime, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); r.ContentLength != 0 && (err != nil || mime != "application/x-www-form-urlencoded") {
		return &problem.Error{Kind: problem.UnsupportedMediaType, Detail: "Send the form as application/x-www-form-urlencoded."}
	}
	var tooLarge *http.MaxBytesError
	switch err := r.ParseForm(); {
	case errors.As(err, &tooLarge):
		return &problem.Error{Kind: problem.TooLarge, Detail: "The form is too large."}
	case err != nil:
		return &problem.Error{Kind: problem.Malformed, Detail: "The form cannot be read."}
	}
	return CheckText(r.PostForm)
}

// CheckText refuses what is no text, in a form or a query: Postgres takes none. That it takes no NUL, a field says itself.
func CheckText(values url.Values) error {
	for name, all := range values {
		for _, text := range append(all, name) {
			if !utf8.ValidString(text) {
				return &problem.Error{Kind: problem.Malformed, Detail: "The request has a value that is not text in UTF-8."}
			}
		}
	}
	return nil
}

// WithQuery is a path with a further part of its query.
func WithQuery(path, part string) string {
	if strings.Contains(path, "?") {
		return path + "&" + part
	}
	return path + "?" + part
}
