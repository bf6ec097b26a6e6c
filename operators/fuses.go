package operators

import (
	"net/http"
	"net/url"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

func (s *site) fusesRoutes() {
	s.get("/ops/fuses/{class}/reset", s.resetFuseForm)
	s.post("/ops/fuses/{class}/reset", s.resetFuse)
}

func (s *site) resetFuseForm(w http.ResponseWriter, r *http.Request) error {
	class := r.PathValue("class")
	since, err := history.BlownSince(r.Context(), s.Ops.Pool, class)
	if err != nil {
		return err
	}
	return s.confirm(w, r, "Reset the fuse of "+class+"?", confirmation{
		Back: Root, BackText: "What is wrong now", Action: Root + "/fuses/" + url.PathEscape(class) + "/reset", Button: "Reset the fuse", Danger: true,
		Text: []string{
			"It blew at " + webhook.FormatTime(since) + ". While it is blown, failures of this class disable no webhook, as they look like our own network's. It ends by itself with the first success of a webhook that failed so.",
			"Reset it only when you know that the receivers are at fault. From then on, ten failures in a row disable a webhook again.",
		},
	})
}

func (s *site) resetFuse(w http.ResponseWriter, r *http.Request) error {
	if err := history.ResetFuse(r.Context(), s.Ops.Pool, s.Logger, r.PathValue("class")); err != nil {
		return err
	}
	return done(w, r, Root, "fuse-reset")
}
