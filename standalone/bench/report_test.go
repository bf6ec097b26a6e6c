package bench_test

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// report gathers figures and shows them: a table for people, JSON for machines, a plot.
type report struct {
	t       *testing.T
	Machine string    `json:"machine"`
	Figures []*figure `json:"figures"`
	Targets []target  `json:"targets,omitempty"`
}

// figure is what was measured, once a round.
type figure struct {
	Name   string    `json:"name"`
	Unit   string    `json:"unit"`
	Values []float64 `json:"values"`
	Median float64   `json:"median"`
}

// target compares figures of the same round: the median of the rounds' ratios is what counts.
type target struct {
	Name   string  `json:"name"`
	Wanted float64 `json:"wanted"`
	// AtMost: the value must not be greater than what is wanted; otherwise not less.
	AtMost bool    `json:"atMost,omitempty"`
	Value  float64 `json:"value"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Met    bool    `json:"met"`
}

func newReport(t *testing.T) *report {
	return &report{t: t, Machine: fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())}
}

func (r *report) add(name, unit string, value float64) {
	f := r.figure(name)
	if f == nil {
		f = &figure{Name: name, Unit: unit}
		r.Figures = append(r.Figures, f)
	}
	f.Values = append(f.Values, value)
	f.Median = median(f.Values)
	if full {
		r.t.Logf("%s: %s %s", name, readable(value), unit)
	}
}

// addLatency notes the times of one round, which are sorted.
func (r *report) addLatency(name string, took []time.Duration) {
	for _, q := range []struct {
		name string
		i    int
	}{{"p50", len(took) / 2}, {"p99", len(took) * 99 / 100}, {"max", len(took) - 1}} {
		r.add(name+", "+q.name, "ms", float64(took[q.i].Microseconds())/1000)
	}
}

func (r *report) figure(name string) *figure {
	for _, f := range r.Figures {
		if f.Name == name {
			return f
		}
	}
	return nil
}

func (r *report) values(name string) []float64 {
	f := r.figure(name)
	if f == nil {
		r.t.Fatalf("nothing was measured under the name of %q", name)
	}
	return f.Values
}

// compare holds the figures against what they are to be.
func (r *report) compare() {
	floor := "A: empty workflows"
	r.ratio("1 webhook over HTTP : A", "over HTTP, 1 webhook", floor, 1, 0.9)
	r.ratio("a backlog of a Temporal client's, 1 webhook : A", "over Temporal, 1 webhook", floor, 1, 0.8)
	r.ratio("10 webhooks over HTTP : 10 A", "over HTTP, 10 webhooks", floor, 10, 0.7)
	r.ratio("10 webhooks over HTTP : C", "over HTTP, 10 webhooks", "C: all regular activities, 10 webhooks", 1, 10)
	r.ratio("100 webhooks over HTTP : B", "over HTTP, 100 webhooks", "B: no engine, 100 webhooks", 1, 0.4)
	r.ratio("A : A with stock settings", floor, "A with stock settings", 1, 1.5)
	r.atMost("p50 in ms at 20 events/s", "emit to receipt at 20/s, p50", 6)
	r.atMost("p99 in ms at 20 events/s", "emit to receipt at 20/s, p99", 20)
	r.atMost("workflow tasks of the backlog that timed out", "over Temporal, 1 webhook: tasks timed out", 0)
}

// ratio is the part that a figure is of so many times another.
func (r *report) ratio(name, of, to string, times, wanted float64) {
	var ratios []float64
	for i, v := range r.values(of) {
		ratios = append(ratios, v/times/r.values(to)[i])
	}
	r.target(target{Name: name, Wanted: wanted}, ratios)
}

func (r *report) atMost(name, of string, wanted float64) {
	r.target(target{Name: name, Wanted: wanted, AtMost: true}, r.values(of))
}

func (r *report) target(v target, values []float64) {
	v.Value, v.Low, v.High = median(values), slices.Min(values), slices.Max(values)
	v.Met = v.Value >= v.Wanted
	if v.AtMost {
		v.Met = v.Value <= v.Wanted
	}
	r.Targets = append(r.Targets, v)
}

// print shows the table.
func (r *report) print() {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(format string, values ...any) { _, _ = fmt.Fprintf(w, format+"\n", values...) } // into memory
	line("\nMedians of %d rounds, and the spread of them, on %s\n", len(r.Figures[0].Values), r.Machine)
	for _, f := range r.Figures {
		line("%s\t%s\t%s – %s\t%s", f.Name, readable(f.Median), readable(slices.Min(f.Values)), readable(slices.Max(f.Values)), f.Unit)
	}
	if len(r.Targets) > 0 {
		line("")
	}
	for _, v := range r.Targets {
		sign, verdict := "≥", "missed"
		if v.AtMost {
			sign = "≤"
		}
		if v.Met {
			verdict = "met"
		}
		line("%s\t%s\t%s – %s\t%s %s\t%s", v.Name, readable(v.Value), readable(v.Low), readable(v.High), sign, readable(v.Wanted), verdict)
	}
	_ = w.Flush() // into memory
	r.t.Log(b.String())
}

// write shows the table and writes the files that were asked for.
func (r *report) write(t *testing.T) {
	t.Helper()
	r.print()
	write := func(path string, content []byte) {
		if path == "" {
			return
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	encoded, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	write(*jsonPath, append(encoded, '\n'))
	drawing, err := r.plot()
	if err != nil {
		t.Fatal(err)
	}
	write(*svgPath, drawing)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[n/2]
}

// readable keeps three digits that tell.
func readable(v float64) string {
	switch {
	case v != 0 && v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
