// Package docs is the documentation, and what proves that it is current.
package docs

//go:generate go run ./internal/geneventsdoc events.md
