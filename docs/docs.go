// Package docs is the documentation, and what proves that it is current.
package docs

import "embed"

//go:generate go run ./internal/geneventsdoc events.md

// Pages are the pages and their images; README.md is the index. The API serves those for bot developers, see api/docs.go.
//
//go:embed *.md images/*.png
var Pages embed.FS
