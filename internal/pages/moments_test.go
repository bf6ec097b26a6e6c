package pages

import (
	"html/template"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMoments(t *testing.T) {
	const shown = `<time datetime="2026-11-27T18:59:57.136Z" title="2026-11-27T18:59:57.136Z">2026-11-27 18:59:57 UTC</time>`
	for text, want := range map[string]template.HTML{
		"":                                   "",
		"1 failure: HTTP 500":                "1 failure: HTTP 500",
		"dns since 2026-11-27T18:59:57.136Z": "dns since " + shown,
		"<b> since 2026-11-27T18:59:57.136Z: <i>":           "&lt;b&gt; since " + shown + ": &lt;i&gt;",
		"2026-11-27T18:59:57.136Z 2026-11-27T18:59:57.136Z": shown + " " + shown,
		"until 2026-13-27T18:59:57.136Z":                    "until 2026-13-27T18:59:57.136Z",
	} {
		require.Equal(t, want, moments(text), text)
	}
}
