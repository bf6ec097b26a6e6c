package operators

import (
	"net/http"
	"strings"

	"github.com/mathub/webhooks/internal/bots"
	"github.com/mathub/webhooks/internal/pages"
)

func (s *site) keysRoutes() {
	s.get("/ops/keys", s.findKeysForm)
	s.post("/ops/keys", s.findKeys)
}

// foundKeys is what a search for a leaked key has found.
type foundKeys struct {
	Searched bool
	Keys     []bots.Key
}

func findKeysPage(found foundKeys) pages.Page {
	return pages.Page{Title: "Find a leaked key", Nav: "bots", Data: found}
}

func (s *site) findKeysForm(w http.ResponseWriter, r *http.Request) error {
	return s.show(w, r, "keys", findKeysPage(foundKeys{}))
}

// findKeys answers with what it finds, as a key stands in no address. The page does not repeat it.
func (s *site) findKeys(w http.ResponseWriter, r *http.Request) error {
	keys, err := s.Bots.FindKeys(r.Context(), strings.TrimSpace(r.PostForm.Get("key"))) // as it was copied
	if err != nil {
		return s.again(w, r, "keys", findKeysPage(foundKeys{}), err)
	}
	return s.show(w, r, "keys", findKeysPage(foundKeys{Searched: true, Keys: keys}))
}
