package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/mathub/webhooks/standalone/datadir"
)

// envVariables are what the product's commands need to work on what runs here: as clients, and on the installation.
var envVariables = []string{
	"MATHUB_SERVICE_TOKEN", "MATHUB_KEYSET", "MATHUB_DATABASE_URL", "MATHUB_TEMPORAL_UI",
	"MATHUB_EGRESS_ALLOW", "MATHUB_EGRESS_ALLOW_HTTP", "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE", "TEMPORAL_CONFIG_FILE",
}

// writeEnv writes the file that a shell sources: bash, zsh or fish.
func (s *stack) writeEnv() error {
	program, err := filepath.Abs(s.App)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("# Source this file, and mathub-webhooks works on what make run started. It holds keys. Each start writes it anew.\n")
	set := func(name, value string) { fmt.Fprintf(&b, "export %s=%s\n", name, quoted(value)) }
	set("MATHUB_API", s.baseURL())
	set("MATHUB_SERVICE_API", s.serviceURL())
	set("MATHUB_BOT_KEY", s.data.Credentials.BotKey)
	env := s.appEnvironment(os.Environ())
	for _, name := range envVariables {
		for _, variable := range slices.Backward(env) { // of several, the last counts
			if value, is := strings.CutPrefix(variable, name+"="); is {
				set(name, value)
				break
			}
		}
	}
	fmt.Fprintf(&b, "export PATH=%s:\"$PATH\"\n", quoted(filepath.Dir(program)))
	return s.data.Write(datadir.EnvFile, []byte(b.String()))
}

// word is text as a person writes one word of a shell.
func word(text string) string {
	if plain.MatchString(text) {
		return text
	}
	return quoted(text)
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./+:@%=-]+$`)

// quoted is text as one word of a shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// envPath is how the file is named where the program was started.
func (s *stack) envPath() string {
	path := filepath.Join(s.data.Path, datadir.EnvFile)
	if folder, err := os.Getwd(); err == nil {
		if relative, err := filepath.Rel(folder, path); err == nil && !strings.HasPrefix(relative, "..") {
			return relative
		}
	}
	return path
}
