// Package snippets is the receivers that the portal shows to be copied.
package snippets

import (
	"bytes"
	"embed"
	"encoding/json"
	"text/template"
)

//go:embed receiver.*
var files embed.FS

var templates = template.Must(template.ParseFS(files, "receiver.*"))

// Snippet is a receiver that verifies signatures and agrees to deliveries. Its first line says how it is run.
type Snippet struct{ Language, Code string }

// With returns receivers with a secret in them, or, where it is empty, receivers that take it from their environment.
func With(secret string) []Snippet {
	var all []Snippet
	for _, s := range []struct{ language, file, fromEnvironment string }{
		{"Python", "receiver.py", `os.environ["MATHUB_WEBHOOK_SECRET"]`},
		{"Node", "receiver.mjs", "process.env.MATHUB_WEBHOOK_SECRET"},
		{"Go", "receiver.go.txt", `os.Getenv("MATHUB_WEBHOOK_SECRET")`},
	} {
		literal := s.fromEnvironment
		if secret != "" {
			quoted, _ := json.Marshal(secret) // it is a text; as JSON it is one of each of these languages
			literal = string(quoted)
		}
		var b bytes.Buffer
		if err := templates.ExecuteTemplate(&b, s.file, struct{ Secret string }{literal}); err != nil {
			panic(err) // a buffer takes everything
		}
		all = append(all, Snippet{s.language, b.String()})
	}
	return all
}
