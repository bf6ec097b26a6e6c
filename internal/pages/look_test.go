package pages_test

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPortalCSS_Contrast holds the style sheet's colours to WCAG 2.2: 4.5:1 between text and what it stands on (1.4.3), 3:1
// between a control's edge, the focus, or a chart's bar and what is beside it (1.4.11). Both in light and in dark.
func TestPortalCSS_Contrast(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("static/portal.css")
	require.NoError(t, err)
	tokens := map[string][2]string{}
	for _, m := range regexp.MustCompile(`--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);`).FindAllStringSubmatch(string(source), -1) {
		tokens[m[1]] = [2]string{m[2], m[3]}
	}

	text := map[string][]string{"on-accent": {"accent", "hover"}, "on-danger": {"danger"}}
	grounds := []string{"bg", "surface", "sunken"}
	for _, ink := range []string{"text", "muted", "link"} {
		text[ink] = grounds
	}
	shapes := map[string][]string{"edge": {"bg", "surface"}, "accent": grounds}
	for _, state := range []string{"ok", "bad", "wait", "info", "off"} {
		text[state] = append([]string{state + "-bg"}, grounds...)
		shapes[state+"-fill"] = []string{"bg", "surface"}
	}
	for least, pairs := range map[float64]map[string][]string{4.5: text, 3: shapes} {
		for ink, under := range pairs {
			for _, ground := range under {
				for i, theme := range []string{"light", "dark"} {
					require.NotEmpty(t, tokens[ink][i], ink)
					require.NotEmpty(t, tokens[ground][i], ground)
					ratio := contrast(t, tokens[ink][i], tokens[ground][i])
					assert.GreaterOrEqual(t, ratio, least, fmt.Sprintf("%s on %s, %s", ink, ground, theme))
				}
			}
		}
	}
	without := regexp.MustCompile(`(?s):root \{.*?\n\}|/\*.*?\*/`).ReplaceAllString(string(source), "")
	require.NotRegexp(t, `(?i)(color|background|border|fill|stroke)[a-z-]*:[^;]*#[0-9a-f]{6}\b`, without, "a colour of text is a token, so that this test sees it")
}

// contrast is WCAG's ratio of two colours, each as #rrggbb.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	la, lb := luminance(t, a), luminance(t, b)
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		value, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
		require.NoError(t, err)
		c := float64(value) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}
