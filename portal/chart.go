package portal

import (
	"cmp"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/mathub/webhooks/internal/history"
	"github.com/mathub/webhooks/webhook"
)

// Charts are SVG in these units, stretched to where they stand: labels are HTML, so that they keep their size on a phone.
const (
	chartWidth, chartHeight = 600, 120
	sparkWidth, sparkHeight = 120, 28
)

// span is one that the charts of a webhook can show.
type span struct {
	Key, Label string
	length     time.Duration
	bucket     string
	layout     string // of times at its ends
}

var spans = []span{
	{"1h", "1 h", time.Hour, "1m", "15:04"},
	{"24h", "24 h", 24 * time.Hour, "1h", "Jan 2, 15:04"},
	{"7d", "7 d", 7 * 24 * time.Hour, "6h", "Jan 2, 15:04"},
	{"30d", "30 d", 30 * 24 * time.Hour, "1d", "Jan 2"},
}

// spanOf finds a span by its key; the day is the usual one.
func spanOf(key string) span {
	for _, s := range spans {
		if s.Key == key {
			return s
		}
	}
	return spans[1]
}

// query asks for the span's buckets up to the present one.
func (s span) query(now time.Time) (history.StatsQuery, error) {
	bucket := history.ParseBucket(s.bucket)
	from := now.Add(bucket - s.length)
	return history.NewStatsQuery(&from, &now, bucket, now)
}

// bar is a bucket of a chart.
type bar struct {
	Start             time.Time
	Delivered, Failed int
	P50, P95          int
	Title, Href       string
	OK, Bad, Hit      string // SVG paths
}

// Total is how many deliveries it counts.
func (b bar) Total() int { return b.Delivered + b.Failed }

// share is a kind of deliveries, beside the others of its list.
type share struct {
	Name, Href string
	N          int
	Percent    int // of the greatest
}

// charts are what the page of a webhook draws.
type charts struct {
	Span     span
	Spans    []span
	Bars     []bar
	Sum      bar // of all
	P50, P95 string
	// Most is the value at the top of the bars, MostMs that of the lines.
	Most, MostMs  int
	From, To      string
	Errors, Types []share
}

// newCharts draws buckets. deliveries is the path of the deliveries that they count, which bars lead to a part of.
func newCharts(s span, buckets []history.Bucket, deliveries string) *charts {
	c := &charts{Span: s, Spans: spans, Bars: make([]bar, len(buckets))}
	if len(buckets) == 0 {
		return c
	}
	length, all := history.ParseBucket(s.bucket), new(history.Tally)
	for i := range buckets {
		b := &buckets[i]
		all.Add(&b.Tally)
		c.Bars[i] = bar{Start: b.Start, Delivered: b.Delivered, Failed: b.Failed, P50: b.Percentile(0.5), P95: b.Percentile(0.95)}
		c.Most, c.MostMs = max(c.Most, b.Total()), max(c.MostMs, c.Bars[i].P95)
		if b.Total() > 0 {
			c.Bars[i].Href = deliveries + "?" + spanQuery(b.Start, b.Start.Add(length), nil)
		}
	}
	c.Most, c.MostMs = niceCeiling(c.Most), niceCeiling(c.MostMs)
	c.Sum = bar{Delivered: all.Delivered, Failed: all.Failed, P50: all.Percentile(0.5), P95: all.Percentile(0.95)}
	width := float64(chartWidth) / float64(len(buckets))
	for i := range c.Bars {
		c.Bars[i].draw(s, float64(i)*width, width, c.Most)
	}
	c.P50 = line(c.Bars, func(b bar) int { return b.P50 }, c.MostMs)
	c.P95 = line(c.Bars, func(b bar) int { return b.P95 }, c.MostMs)
	from, to := buckets[0].Start, buckets[len(buckets)-1].Start.Add(length)
	c.From, c.To = from.Format(s.layout), to.Format(s.layout)
	c.Errors = shares(all.ByError, func(class string) string {
		return deliveries + "?" + spanQuery(from, to, failedBy(class))
	})
	c.Types = shares(all.ByType, func(eventType string) string {
		return deliveries + "?" + spanQuery(from, to, url.Values{"eventType": {eventType}})
	})
	return c
}

// spanQuery is the query of the deliveries of a span that ends before until.
func spanQuery(since, until time.Time, also url.Values) string {
	q := url.Values{"since": {webhook.FormatTime(since)}, "until": {webhook.FormatTime(until.Add(-time.Millisecond))}}
	maps.Copy(q, also)
	return q.Encode()
}

// failedBy are the filters that come nearest to a class of errors.
func failedBy(class string) url.Values {
	q := url.Values{"outcome": {"failed"}}
	switch class {
	case "timeout", "tls", "dns", "blocked":
		q.Set("error", class)
	case "connect_timeout":
		q.Set("error", "connect timeout")
	case "http_429":
		q.Set("error", "HTTP 429")
	case "http_3xx", "http_4xx", "http_5xx":
		q.Set("statusClass", strings.TrimPrefix(class, "http_"))
	}
	return q
}

// draw makes the paths of a bar: what was delivered below, what failed above it. Whatever is not 0 is seen.
func (b *bar) draw(s span, x, width float64, most int) {
	noun := "deliveries"
	if b.Total() == 1 {
		noun = "delivery"
	}
	b.Title = fmt.Sprintf("%s UTC: %d %s", b.Start.Format(s.layout), b.Total(), noun)
	if b.Failed > 0 {
		b.Title += fmt.Sprintf(", %d failed", b.Failed)
	}
	ok, bad := height(b.Delivered, most, chartHeight), height(b.Failed, most, chartHeight)
	x, width = x+width*0.1, width*0.8
	b.OK = box(x, chartHeight-ok, width, ok)
	b.Bad = box(x, max(chartHeight-ok-bad, 0), width, bad)
	b.Hit = box(x-width/8, 0, width*1.25, chartHeight)
}

// height is at least 2 units of whatever is not 0.
func height(n, most, full int) float64 {
	if n == 0 || most == 0 {
		return 0
	}
	return max(float64(n)/float64(most)*float64(full), 2)
}

func box(x, y, width, height float64) string {
	if height == 0 {
		return ""
	}
	return fmt.Sprintf("M%.1f %.1fh%.1fv%.1fh-%.1fz", x, y, width, height, width)
}

// line goes from bar to bar, and is interrupted by those without deliveries. A bar alone is a short line, which is seen.
func line(bars []bar, value func(bar) int, most int) string {
	var path strings.Builder
	width := float64(chartWidth) / float64(len(bars))
	command := "M"
	for i, b := range bars {
		if b.Total() == 0 {
			command = "M"
			continue
		}
		y := chartHeight - 2 - float64(value(b))/float64(max(most, 1))*(chartHeight-4)
		x := (float64(i) + 0.5) * width
		if alone := command == "M" && (i+1 == len(bars) || bars[i+1].Total() == 0); alone {
			fmt.Fprintf(&path, "M%.1f %.1fh%.1f", x-width/4, y, width/2)
			continue
		}
		fmt.Fprintf(&path, "%s%.1f %.1f", command, x, y)
		command = "L"
	}
	return path.String()
}

// niceCeiling is the least of 1, 2, 5, 10, 20, … that is not less.
func niceCeiling(n int) int {
	for power := 1; power > 0; power *= 10 {
		for _, digit := range []int{1, 2, 5} {
			if n <= digit*power {
				return digit * power
			}
		}
	}
	return n
}

// shares are the greatest first.
func shares(counts map[string]int, href func(name string) string) (list []share) {
	most := 0
	for name, n := range counts {
		list = append(list, share{Name: name, N: n, Href: href(name)})
		most = max(most, n)
	}
	for i := range list {
		list[i].Percent = max(100*list[i].N/most, 1)
	}
	slices.SortFunc(list, func(a, b share) int { return cmp.Or(cmp.Compare(b.N, a.N), strings.Compare(a.Name, b.Name)) })
	return list
}

// errorNames are the classes of errors in words.
var errorNames = map[string]string{
	"blocked": "blocked address", "connect_timeout": "connect timeout", "connection": "connection refused or closed", "dns": "DNS",
	"http_3xx": "HTTP 3xx", "http_4xx": "HTTP 4xx", "http_429": "HTTP 429", "http_5xx": "HTTP 5xx", "http_other": "other HTTP status",
	"other": "other", "response": "invalid response", "timeout": "timeout", "tls": "TLS", "unreachable": "unreachable",
}

// Label is an error's class in words, or else the name itself.
func (s share) Label() string { return cmp.Or(errorNames[s.Name], s.Name) }

// spark is a webhook's last 24 hours in the list.
type spark struct{ Title, OK, Bad string }

// newSpark draws hours.
func newSpark(hours []history.Bucket) (s spark) {
	most, delivered, failed := 0, 0, 0
	for i := range hours {
		most = max(most, hours[i].Total())
		delivered, failed = delivered+hours[i].Delivered, failed+hours[i].Failed
	}
	s.Title = fmt.Sprintf("%d delivered and %d failed in 24 hours", delivered, failed)
	width := float64(sparkWidth) / float64(max(len(hours), 1))
	for i := range hours {
		ok, bad := height(hours[i].Delivered, most, sparkHeight), height(hours[i].Failed, most, sparkHeight)
		x := float64(i) * width
		s.OK += box(x, sparkHeight-ok, width*0.8, ok)
		s.Bad += box(x, max(sparkHeight-ok-bad, 0), width*0.8, bad)
	}
	return s
}

// rate is a percentage of deliveries that succeeded; only all are 100 %.
func rate(t *history.Tally) string {
	if t.Total() == 0 {
		return ""
	}
	percent := 100 * float64(t.Delivered) / float64(t.Total())
	if t.Failed > 0 {
		percent = min(percent, 99.9)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", percent), ".0") + " %"
}
