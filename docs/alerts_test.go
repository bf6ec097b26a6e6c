package docs_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	runbook  = regexp.MustCompile(`runbook_url: https://github\.com/mathub/webhooks/blob/main/docs/operations\.md#([a-z]+)\n?`)
	severity = regexp.MustCompile(`severity: (critical|warning|info)\}`)
	section  = regexp.MustCompile(`(?m)^### (Mathub\w+)$`)
)

// TestEveryAlertLeadsToItsRunbook: a section of operations.md, with commands; and no section is of an alert that is gone.
func TestEveryAlertLeadsToItsRunbook(t *testing.T) {
	page := read(t, "operations.md")
	headings := section.FindAllStringSubmatchIndex(page, -1)
	sections := map[string]string{}
	for i, at := range headings {
		end := len(page)
		if i+1 < len(headings) {
			end = headings[i+1][0]
		} else if next := strings.Index(page[at[1]:], "\n## "); next >= 0 {
			end = at[1] + next
		}
		sections[page[at[2]:at[3]]] = page[at[1]:end]
	}
	rules := strings.Split(read(t, "../deploy/prometheus/alerts.yml"), "\n      - alert: ")[1:]
	require.Greater(t, len(rules), 10)
	for _, rule := range rules {
		name, text, _ := strings.Cut(rule, "\n")
		require.Regexp(t, severity, text, name)
		require.Regexp(t, ` +summary: .{20,}`, text, name)
		leads := runbook.FindStringSubmatch(text)
		require.NotNil(t, leads, name)
		require.Equal(t, strings.ToLower(name), leads[1], name)
		require.Regexp(t, "(?s)\n```sh\n.+\n```", sections[name], "the runbook of %s has commands", name)
		delete(sections, name)
	}
	require.Empty(t, sections, "runbooks of no alert")
}
