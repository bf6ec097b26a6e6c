package operators

import (
	"net/http"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/internal/ops"
	"github.com/mathub/webhooks/internal/pages"
	"github.com/mathub/webhooks/internal/problem"
)

func (s *site) pausesRoutes() {
	s.get("/ops/pauses", s.listPauses)
	s.post("/ops/pauses", s.pause)
	s.post("/ops/pauses/end", s.endPause)
}

const pausesPath = Root + "/pauses"

func (s *site) listPauses(w http.ResponseWriter, r *http.Request) error {
	with, err := s.pausesPage(r)
	if err != nil {
		return err
	}
	with.Form.Values = r.URL.Query() // a link may fill the form in
	return s.show(w, r, "pauses", with)
}

func (s *site) pausesPage(r *http.Request) (pages.Page, error) {
	query := r.URL.Query()
	list, next, err := s.Webhooks.Pauses().List(r.Context(), query.Get("after"), ops.DefaultListed)
	if problem.Is(err, problem.Invalid) { // a link that was changed by hand leads to the first page
		query.Del("after")
		list, next, err = s.Webhooks.Pauses().List(r.Context(), "", ops.DefaultListed)
	}
	return pages.Page{Title: "Pauses", Nav: "pauses", Data: pageOf(list, query, next)}, err
}

// pause asks once more before all deliveries are paused.
func (s *site) pause(w http.ResponseWriter, r *http.Request) error {
	form := r.PostForm
	scope, value, reason := form.Get("scope"), form.Get("value"), form.Get("reason")
	if scope == string(history.PauseAll) && value == "" && orNil(reason) != nil && form.Get("sure") == "" {
		return s.confirm(w, r, "Pause all deliveries?", confirmation{
			Back: pausesPath, BackText: "Pauses", Action: pausesPath, Button: "Pause all deliveries", Danger: true,
			Hidden: []field{{"scope", scope}, {"reason", reason}, {"sure", "yes"}},
			Text:   []string{"No bot gets anything until you end the pause. Events are accepted, and wait. The owners of all webhooks read the reason: " + reason},
		})
	}
	if _, err := s.Webhooks.Pauses().Begin(r.Context(), history.PauseScope(scope), value, reason); err != nil {
		with, failed := s.pausesPage(r)
		if failed != nil {
			return failed
		}
		return s.again(w, r, "pauses", with, err)
	}
	return done(w, r, pausesPath, "deliveries-paused")
}

func (s *site) endPause(w http.ResponseWriter, r *http.Request) error {
	if err := s.Webhooks.Pauses().End(r.Context(), history.PauseScope(r.PostForm.Get("scope")), r.PostForm.Get("value")); err != nil {
		return err
	}
	return done(w, r, pausesPath, "pause-ended")
}
