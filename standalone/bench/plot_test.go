package bench_test

import (
	"bytes"
	"image/color"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// plot draws throughput and latency as SVG: medians as bars, the rounds as dots.
func (r *report) plot() ([]byte, error) {
	var speeds, times []*figure
	for _, f := range r.Figures {
		switch {
		case strings.HasSuffix(f.Unit, "s/s"):
			speeds = append(speeds, f)
		case f.Unit == "ms":
			times = append(times, f)
		}
	}
	canvas := vgsvg.New(900, vg.Length(22*(len(speeds)+len(times))+100))
	var plots [][]*plot.Plot
	for _, chart := range []struct {
		axis    string
		figures []*figure
		ticks   []float64
	}{
		{"per second (logarithmic)", speeds, []float64{1, 10, 100, 1000, 10_000, 100_000}},
		{"ms (logarithmic)", times, []float64{1, 10, 100, 1000}},
	} {
		if len(chart.figures) == 0 {
			continue
		}
		p, err := bars(chart.axis, chart.figures, chart.ticks)
		if err != nil {
			return nil, err
		}
		plots = append(plots, []*plot.Plot{p})
	}
	tiles := draw.Tiles{Rows: len(plots), Cols: 1, PadY: 12, PadTop: 6, PadRight: 20, PadLeft: 6, PadBottom: 6}
	for i, row := range plot.Align(plots, tiles, draw.New(canvas)) {
		plots[i][0].Draw(row[0])
	}
	var b bytes.Buffer
	_, err := canvas.WriteTo(&b)
	return b.Bytes(), err
}

// bars draws figures from top to bottom, by the logarithms of their values.
func bars(axis string, figures []*figure, ticks []float64) (*plot.Plot, error) {
	p := plot.New()
	p.X.Label.Text = axis
	p.X.Tick.Marker = plot.ConstantTicks(labelled(ticks))
	figures = slices.Clone(figures)
	slices.Reverse(figures)
	var medians plotter.Values
	var each plotter.XYs
	names := make([]string, len(figures))
	for i, f := range figures {
		medians = append(medians, logarithm(f.Median))
		names[i] = f.Name + "  " + readable(f.Median)
		for _, v := range f.Values {
			each = append(each, plotter.XY{X: logarithm(v), Y: float64(i)})
		}
	}
	chart, err := plotter.NewBarChart(medians, 12)
	if err != nil {
		return nil, err
	}
	chart.Horizontal = true
	chart.Color = color.RGBA{R: 0x9e, G: 0xb9, B: 0xd8, A: 0xff}
	chart.LineStyle.Width = 0
	dots, err := plotter.NewScatter(each)
	if err != nil {
		return nil, err
	}
	dots.GlyphStyle = draw.GlyphStyle{Color: color.RGBA{R: 0x1f, G: 0x3a, B: 0x5f, A: 0xff}, Radius: 2, Shape: draw.CircleGlyph{}}
	p.Add(plotter.NewGrid(), chart, dots)
	p.NominalY(names...)
	p.X.Min = 0
	return p, nil
}

func logarithm(v float64) float64 { return math.Log10(max(1, v)) }

func labelled(values []float64) (ticks []plot.Tick) {
	for _, v := range values {
		ticks = append(ticks, plot.Tick{Value: logarithm(v), Label: readable(v)})
	}
	return ticks
}
