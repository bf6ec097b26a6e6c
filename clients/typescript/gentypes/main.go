// Gentypes writes the parts of the TypeScript package that are drawn from elsewhere: the types of events from the catalog, and
// types and calls of the bot API from the OpenAPI document.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/mathub/webhooks/webhook"
)

//go:generate go run . ../../../api/openapi.yaml ../src

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: gentypes OPENAPI FOLDER")
		os.Exit(2)
	}
	if err := generate(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "gentypes:", err)
		os.Exit(1)
	}
}

func generate(openapi, folder string) error {
	events, err := eventTypes(webhook.Catalog())
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(openapi) //nolint:gosec // named by who runs it
	if err != nil {
		return err
	}
	calls, err := botAPI(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", openapi, err)
	}
	for name, source := range map[string]string{"catalog.ts": events, "bot_api.ts": calls} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(source), 0o644); err != nil { //nolint:gosec // a source file
			return err
		}
	}
	return nil
}
