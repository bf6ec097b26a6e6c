package pages

import "strings"

// Policy is the Content-Security-Policy of every page: nothing but its own files, no inline script or style, and in frames
// of nobody but those origins.
func Policy(embed []string) string {
	ancestors := "'none'"
	if len(embed) > 0 {
		ancestors = strings.Join(embed, " ")
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors " + ancestors + "; require-trusted-types-for 'script'"
}
