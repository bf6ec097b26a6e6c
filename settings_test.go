package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestREADMENamesEverySetting holds the README's table of settings against the flags, both ways.
func TestREADMENamesEverySetting(t *testing.T) {
	var known []string
	for _, name := range variables(newParser(new(commands)).Model.Node) {
		if strings.HasPrefix(name, "MATHUB_") && !slices.Contains(known, name) {
			known = append(known, name)
		}
	}
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n### Settings\n")
	require.True(t, found)
	var documented []string
	for _, line := range strings.Split(section, "\n") {
		if cell, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | "); ok {
			documented = append(documented, regexp.MustCompile(`MATHUB_\w+`).FindAllString(cell, -1)...)
		}
	}
	require.ElementsMatch(t, known, documented)
}
