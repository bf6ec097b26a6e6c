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
	r.compareBursts()
	r.atMost("20 events/s: p50 in ms", "product, emit to receipt at 20/s, p50", 6)
	r.atMost("20 events/s: p99 in ms", "product, emit to receipt at 20/s, p99", 20)
	r.atMost("100 events/s: p99 in ms", "product, emit to receipt at 100/s, p99", 30)
	r.atMost("400 events/s: p99 in ms", "product, emit to receipt at 400/s, p99", 100)
	r.compareBacklog()
	r.ratio("10 webhooks : C", "product, 10 webhooks", "C: all regular activities, 10 webhooks", 10)
	r.ratio("100 webhooks : B", "product, 100 webhooks", "B: no engine, 100 webhooks", 0.4)
	r.ratio("A : A with stock settings", "A: empty workflows", "A with stock settings", 1.5)
}

func (r *report) compareBacklog() {
	r.ratio("a backlog of a Temporal client's, 1 webhook : A's", "over Temporal, 1 webhook", "A put in by a plain Temporal client", 0.9)
	r.atMost("workflow tasks of the backlog that timed out", "over Temporal, 1 webhook: tasks timed out", 0)
}

// compareBursts compares the product with yardstick D in what of both was measured.
func (r *report) compareBursts() {
	const product, river, cpu = "product, ", "D: River, ", ": CPU of all"
	for _, c := range []struct {
		name, of, to string
		wanted       float64
		atMost       bool
	}{
		{"1 webhook : D", product + "1 webhook", river + "1 webhook", 1, false},
		{"10 webhooks : D", product + "10 webhooks", river + "10 webhooks", 1.2, false},
		{"100 webhooks : D", product + "100 webhooks", river + "100 webhooks", 1.5, false},
		{"batches of 100 : D's single events", product + "batches of 100", river + "1 webhook", 1.5, false},
		{"batches of 100 : D's batches", product + "batches of 100", river + "batches of 100", 1.5, false},
		{"1 webhook: CPU : D's", product + "1 webhook" + cpu, river + "1 webhook" + cpu, 1.3, true},
		{"10 webhooks: CPU : D's", product + "10 webhooks" + cpu, river + "10 webhooks" + cpu, 1.3, true},
		{"100 webhooks: CPU : D's", product + "100 webhooks" + cpu, river + "100 webhooks" + cpu, 1.3, true},
		{"batches of 100: CPU : D's", product + "batches of 100" + cpu, river + "batches of 100" + cpu, 1.3, true},
	} {
		of, to := r.figure(c.of), r.figure(c.to)
		if of == nil || to == nil || len(of.Values) != len(to.Values) {
			continue // -run chose others, or a round of one failed
		}
		r.target(target{Name: c.name, Wanted: c.wanted, AtMost: c.atMost}, ratios(of.Values, to.Values))
	}
}

func ratios(of, to []float64) (all []float64) {
	for i, v := range of {
		all = append(all, v/to[i])
	}
	return all
}

// ratio is the part that a figure is of another.
func (r *report) ratio(name, of, to string, wanted float64) {
	r.target(target{Name: name, Wanted: wanted}, ratios(r.values(of), r.values(to)))
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
	if len(r.Figures) == 0 {
		t.Fatal("nothing was measured")
	}
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
