package portal

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/internal/history"
)

// drawn renders a template of the parts.
func drawn(t *testing.T, name string, data any) string {
	t.Helper()
	p, err := newPortal(Config{Options: Options{Off: true}})
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, p.pages["index"].ExecuteTemplate(&out, name, data))
	return out.String()
}

func bucketsOf(s span, counts ...[2]int) []history.Bucket {
	start := time.Date(2026, 3, 20, 0, 0, 0, 0, time.UTC)
	buckets := make([]history.Bucket, len(counts))
	for i, n := range counts {
		b := history.Bucket{Start: start.Add(time.Duration(i) * history.ParseBucket(s.bucket))}
		if total := n[0] + n[1]; total > 0 {
			b.Add(&history.Tally{Delivered: n[0], Failed: n[1], Durations: map[int32]int{int32(10 * (i + 1)): total}, ByType: map[string]int{"post.created": total}})
		}
		if n[1] > 0 {
			b.Add(&history.Tally{ByError: map[string]int{"http_5xx": n[1]}})
		}
		buckets[i] = b
	}
	return buckets
}

// TestCharts: each bar has a title and leads to its part of the deliveries, the table says the same, and no style stands in an
// attribute, which the content security policy would not let through.
func TestCharts(t *testing.T) {
	t.Parallel()
	s := spanOf("24h")
	c := newCharts(s, bucketsOf(s, [2]int{40, 0}, [2]int{0, 0}, [2]int{1, 0}, [2]int{30, 12}), "/x/portal/webhooks/w/deliveries")
	html := drawn(t, "charts", []any{c, "/x/portal/webhooks/w"})
	require.NotContains(t, html, "style=")
	require.Equal(t, 3, strings.Count(html, `tabindex="-1"`), "no bar of nothing")
	require.Contains(t, html, "<title>Mar 20, 03:00 UTC: 42 deliveries, 12 failed</title>")
	require.Contains(t, html, "<title>Mar 20, 02:00 UTC: 1 delivery</title>")
	part := `/x/portal/webhooks/w/deliveries?since=2026-03-20T03%3A00%3A00.000Z&amp;until=2026-03-20T03%3A59%3A59.999Z"`
	require.Equal(t, 2, strings.Count(html, part), "from the bar and from the table")
	require.Contains(t, html, `<td class="num">30</td><td class="num">12</td>`)
	require.Contains(t, html, "71 delivered")
	require.Contains(t, html, "max 50<")
	require.Contains(t, html, "HTTP 5xx")
	require.Contains(t, html, "outcome=failed&amp;since=2026-03-20T00%3A00%3A00.000Z&amp;statusClass=5xx&amp;until=2026-03-20T03%3A59%3A59.999Z")
	require.Contains(t, html, `<a href="/x/portal/webhooks/w?span=24h#charts" aria-current="true">24 h</a>`)
	require.Equal(t, 2, strings.Count(c.P95, "M"), "the line is interrupted where nothing was sent: %s", c.P95)
	// Well-formed, as a browser would mend what is not, in its own way.
	parser := xml.NewDecoder(strings.NewReader(html))
	for {
		_, err := parser.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
	}

	none := drawn(t, "charts", []any{newCharts(s, bucketsOf(s, [2]int{}, [2]int{}), "/d"), "/w"})
	require.Contains(t, none, "Nothing was sent in this time.")
	require.NotContains(t, none, "<svg")
}

// TestCharts_Geometry: bars stay within the chart whatever the counts, and what is not 0 is seen.
func TestCharts_Geometry(t *testing.T) {
	t.Parallel()
	number := regexp.MustCompile(`-?\d+\.\d`)
	for _, s := range spans {
		for _, counts := range [][][2]int{{{1, 0}}, {{0, 1}}, {{1_000_000, 1}}, {{1, 1_000_000}}, {{999_999, 999_999}, {1, 1}}, {{3, 4}, {0, 0}, {5, 0}}} {
			c := newCharts(s, bucketsOf(s, counts...), "/d")
			for i, b := range c.Bars {
				require.Equal(t, counts[i][0] > 0, b.OK != "", "%v", counts)
				require.Equal(t, counts[i][1] > 0, b.Bad != "", "%v", counts)
				for _, path := range []string{b.OK, b.Bad, b.Hit} {
					for j, text := range number.FindAllString(path, -1) {
						n, err := strconv.ParseFloat(text, 64)
						require.NoError(t, err)
						most := []float64{chartWidth, chartHeight, chartWidth, chartHeight, chartWidth}[j%5]
						require.True(t, n <= most && (n >= 0 || j%5 == 4), "%s of %v", path, counts)
					}
				}
			}
		}
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 20, 10, 31, 12, 0, time.UTC)
	for key, want := range map[string]int{"1h": 60, "24h": 24, "7d": 28, "30d": 30, "": 24, "nonsense": 24} {
		q, err := spanOf(key).query(now)
		require.NoError(t, err)
		require.EqualValues(t, want, q.To.Sub(q.From)/q.Bucket, key)
		require.True(t, q.To.After(now), key)
	}
}

func TestSpark(t *testing.T) {
	t.Parallel()
	s := spanOf("24h")
	sp := newSpark(bucketsOf(s, [2]int{5, 0}, [2]int{0, 0}, [2]int{2, 1}))
	require.Equal(t, "7 delivered and 1 failed in 24 hours", sp.Title)
	require.Equal(t, 2, strings.Count(sp.OK, "M"))
	require.Equal(t, 1, strings.Count(sp.Bad, "M"))
	require.Contains(t, drawn(t, "spark", sp), `role="img"`)
	require.NotPanics(t, func() { newSpark(nil) })
	for want, tally := range map[string]history.Tally{"": {}, "100 %": {Delivered: 3}, "0 %": {Failed: 1}, "99.9 %": {Delivered: 100_000, Failed: 1}, "66.7 %": {Delivered: 2, Failed: 1}} {
		require.Equal(t, want, rate(&tally))
	}
	for n, want := range map[int]int{0: 1, 1: 1, 3: 5, 5: 5, 6: 10, 42: 50, 101: 200, 999_999: 1_000_000} {
		require.Equal(t, want, niceCeiling(n))
	}
}
