package operators

import (
	"net/http"
	"strings"

	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/webhook"
)

// confirmation is the page that asks before something is destroyed, or reaches many.
type confirmation struct {
	Back, BackText string
	Text           []string
	Action, Button string
	Danger         bool
	Hidden         []field   // what the form sends besides
	Type           string    // what has to be typed; empty: nothing
	Reason         *question // what can be said about it; nil: nothing
}

// question is a field of text of a confirmation.
type question struct{ Name, Label, Hint string }

type field struct{ Name, Value string }

func (s *site) confirm(w http.ResponseWriter, r *http.Request, title string, c confirmation) error {
	return s.show(w, r, "confirm", pages.Page{Title: title, Narrow: true, Data: c})
}

// confirmAgain shows a confirmation with what is wrong with what was sent.
func (s *site) confirmAgain(w http.ResponseWriter, r *http.Request, title string, c confirmation, err error) error {
	return s.again(w, r, "confirm", pages.Page{Title: title, Narrow: true, Data: c}, err)
}

// typed says whether what had to be typed was.
func (c confirmation) typed(r *http.Request) error {
	if strings.TrimSpace(r.PostForm.Get("confirm")) == c.Type {
		return nil
	}
	return webhook.Invalid("confirm", "must be "+c.Type)
}

// orNil is nil for an empty text.
func orNil(text string) *string {
	if text = strings.TrimSpace(text); text == "" {
		return nil
	}
	return &text
}
