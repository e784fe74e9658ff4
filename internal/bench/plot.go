package main

import (
	"errors"
	"fmt"
	"image/color"
	"iter"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

var (
	better = color.NRGBA{0x2a, 0x7f, 0x62, 0xff} // green
	worse  = color.NRGBA{0xd0, 0x7a, 0x2d, 0xff} // orange
	ink    = color.NRGBA{0x30, 0x33, 0x3a, 0xff}
	faint  = color.NRGBA{0xdd, 0xdf, 0xe3, 0xff}
	wanted = color.NRGBA{0x2b, 0x5f, 0xb8, 0xff} // blue: a target
)

// plots draws a file for each group of results and for each curve, as SVG and as
// PNG, and returns their names.
func (r *Report) plots(folder string) (names []string, err error) {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	save := func(name string, width, height vg.Length, paint func(draw.Canvas)) {
		err = errors.Join(err, savePlot(filepath.Join(folder, name), width, height, paint))
		names = append(names, name)
	}
	var groups []string
	for _, result := range r.Results {
		if group := result.group(); !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
	}
	for _, group := range groups {
		var rows []*Result
		for _, result := range r.Results {
			if result.group() == group {
				rows = append(rows, result)
			}
		}
		p := bars(groupTitles[group], r.Machine, rows)
		save(group, 11*vg.Inch, vg.Length(len(rows))*0.42*vg.Inch+1.7*vg.Inch, func(c draw.Canvas) {
			const margin = 10
			p.Draw(draw.Crop(c, margin, -margin, margin, -margin))
		})
	}
	for panels := range chunks(r.Growths) {
		name := strings.NewReplacer("/", "-", " ", "-").Replace(panels[0].Curve)
		rows := (len(panels) + 2) / 3
		save(name, 12*vg.Inch, vg.Length(rows)*3.4*vg.Inch, func(c draw.Canvas) { lines(panels, rows, c) })
	}
	return names, err
}

// chunks are the figures of each curve.
func chunks(all []*Growth) iter.Seq[[]*Growth] {
	return func(yield func([]*Growth) bool) {
		for len(all) > 0 {
			n := 1
			for n < len(all) && all[n].Curve == all[0].Curve {
				n++
			}
			if !yield(all[:n]) {
				return
			}
			all = all[n:]
		}
	}
}

var groupTitles = map[string]string{
	"publish":       "Confirmed publishes, persistent, 256 B unless said, to a quorum queue unless said",
	"consume":       "Consuming, each message acknowledged after its handler; quorum queue, 256 B",
	"handle":        "Handlers that take their time; quorum queue, 256 B",
	"typed":         "Typed values from sender to handler; quorum queue",
	"fanout":        "Copies for many groups, each with a quorum queue; 256 B",
	"topic":         "Confirmed publishes to a topic exchange; 256 B",
	"rpc":           "Calls and their replies; 256 B",
	"memory":        "The broker in the same process; 256 B",
	"observed":      "Typed values from sender to handler, observed; quorum queue, 1 KiB",
	"declare":       "What a service declares, with dead letters: services a second",
	"start":         "From the start of a process to its first message: starts a second",
	"subscriptions": "Many subscriptions of one process: subscriptions a second",
	"fail":          "A handler that always fails, to the dead letters",
	"delay":         "Messages that wait at the broker; quorum queue, 256 B",
	"retry":         "Messages that wait for their next attempt; quorum queue, 256 B",
	"middleware":    "Consuming through middleware; quorum queue, 256 B",
}

func (r *Result) group() string {
	group, _, _ := strings.Cut(r.Workload, "/")
	return group
}

func savePlot(name string, width, height vg.Length, paint func(draw.Canvas)) error {
	svg := vgsvg.New(width, height)
	paint(draw.New(svg))
	png := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(144), vgimg.UseBackgroundColor(color.White))}
	paint(draw.New(png))
	for _, file := range []struct {
		name   string
		canvas vg.CanvasWriterTo
	}{{name + ".svg", svg}, {name + ".png", png}} {
		f, err := os.Create(file.name)
		if err != nil {
			return err
		}
		_, err = file.canvas.WriteTo(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// bars shows ratios as bars to the right of 1.0, where ours is faster, or to the
// left, with the range of the pairs over them.
func bars(title string, machine Machine, rows []*Result) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle.Font.Size, p.Title.TextStyle.Color = vg.Points(14), ink
	p.Title.Padding = vg.Points(8)
	p.X.Label.Text = "times the baseline's messages per second: the median of the pairs, and their range; blue is the target\n" + machine.String()
	p.X.Label.TextStyle.Font.Size, p.X.Label.TextStyle.Color = vg.Points(8), ink
	p.X.Scale = plot.LogScale{}
	lowest, highest := 0.8, 1.25
	names := make([]string, len(rows))
	for i, r := range rows {
		_, what, _ := strings.Cut(r.Workload, "/")
		names[len(rows)-1-i] = what + "\nbeside " + r.Baseline
		lowest, highest = min(lowest, r.Min), max(highest, r.Max, r.target.Rate)
	}
	p.X.Min = lowest / 1.05
	end := highest * 1.05
	p.X.Max = p.X.Min * math.Pow(end/p.X.Min, 1.5) // the figures' place
	p.X.Tick.Marker = plot.TickerFunc(func(low, _ float64) []plot.Tick { return ratioTicks(low, end) })
	p.NominalY(names...)
	p.Y.Tick.Label.Font.Size, p.X.Tick.Label.Font.Size = vg.Points(9), vg.Points(9)
	p.Y.Tick.Label.YAlign = text.YCenter
	p.Y.Min, p.Y.Max = -0.6, float64(len(rows))-0.4
	p.Y.Width, p.Y.Tick.Width = 0, 0
	p.Add(&ratioBars{rows, end})
	return p
}

// ratioTicks marks 1, 2 and 5 of each power of ten, or finer if that is few.
func ratioTicks(low, high float64) []plot.Tick {
	steps := []float64{1, 2, 5}
	if high/low < 6 {
		steps = []float64{1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9}
	}
	var ticks []plot.Tick
	for power := math.Pow(10, math.Floor(math.Log10(low))); power <= high; power *= 10 {
		for _, step := range steps {
			if v := step * power; v >= low && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%gx", math.Round(v*1000)/1000)})
			}
		}
	}
	return ticks
}

type ratioBars struct {
	rows []*Result
	end  float64 // where the figures begin
}

// Plot implements plot.Plotter.
func (b *ratioBars) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for _, tick := range p.X.Tick.Marker.Ticks(p.X.Min, p.X.Max) {
		c.StrokeLine2(draw.LineStyle{Color: faint, Width: vg.Points(0.5)}, x(tick.Value), c.Min.Y, x(tick.Value), c.Max.Y)
	}
	thick := (y(1) - y(0)) * 0.3
	label := draw.TextStyle{Color: ink, Font: font.From(plot.DefaultFont, vg.Points(9)), YAlign: text.YCenter, Handler: plot.DefaultTextHandler}
	for i, r := range b.rows {
		at, from, to := y(float64(len(b.rows)-1-i)), x(1), x(r.Ratio)
		fill := better
		if r.Ratio < 1 {
			fill = worse
		}
		c.FillPolygon(fill, []vg.Point{{X: from, Y: at - thick}, {X: to, Y: at - thick}, {X: to, Y: at + thick}, {X: from, Y: at + thick}})
		whisker := draw.LineStyle{Color: ink, Width: vg.Points(1)}
		c.StrokeLine2(whisker, x(r.Min), at, x(r.Max), at)
		for _, end := range []float64{r.Min, r.Max} {
			c.StrokeLine2(whisker, x(end), at-thick/2, x(end), at+thick/2)
		}
		if t := r.target.Rate; t > 0 {
			c.StrokeLine2(draw.LineStyle{Color: wanted, Width: vg.Points(2)}, x(t), at-thick*1.3, x(t), at+thick*1.3)
		}
		figures := fmt.Sprintf("%.2fx, CPU %.2fx", r.Ratio, r.CPURatio)
		if r.P50Ratio != 0 {
			figures += fmt.Sprintf(", p50 %.2fx", r.P50Ratio)
		}
		if r.Met != nil {
			figures += "; target " + map[bool]string{true: "met", false: "missed"}[*r.Met]
		}
		c.FillText(label, vg.Point{X: x(b.end) + vg.Points(8), Y: at}, figures)
	}
	c.StrokeLine2(draw.LineStyle{Color: ink, Width: vg.Points(1.2)}, x(1), c.Min.Y, x(1), c.Max.Y)
}

// lines draws a panel for each figure of a curve, both axes logarithmic.
func lines(panels []*Growth, rows int, c draw.Canvas) {
	columns := (len(panels) + rows - 1) / rows
	grid := make([][]*plot.Plot, rows)
	for i := range grid {
		grid[i] = make([]*plot.Plot, columns)
		for j := range grid[i] {
			if at := i*columns + j; at < len(panels) {
				grid[i][j] = panel(panels[at])
			}
		}
	}
	pad := vg.Points(12)
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: pad, PadY: pad, PadTop: pad, PadBottom: pad, PadLeft: pad, PadRight: pad}
	for i, row := range plot.Align(grid, tiles, c) {
		for j, canvas := range row {
			if grid[i][j] != nil {
				grid[i][j].Draw(canvas)
			}
		}
	}
}

func panel(g *Growth) *plot.Plot {
	p := plot.New()
	p.Title.Text = g.title()
	p.Title.TextStyle.Font.Size, p.Title.TextStyle.Color = vg.Points(11), ink
	p.X.Label.Text = g.Of
	p.X.Label.TextStyle.Font.Size = vg.Points(9)
	p.X.Tick.Label.Font.Size, p.Y.Tick.Label.Font.Size = vg.Points(9), vg.Points(9)
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	ticks := plot.TickerFunc(powers)
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks, ticks
	p.Legend.Top, p.Legend.Left = true, true
	p.Legend.TextStyle.Font.Size = vg.Points(8)
	low, high := math.Inf(1), 0.0
	for _, side := range []struct {
		name   string
		values []float64
		slope  float64
		color  color.Color
		dashes []vg.Length
	}{
		{"Motif", g.Ours, g.OursSlope, better, nil},
		{g.Baseline, g.Theirs, g.TheirsSlope, worse, []vg.Length{vg.Points(4), vg.Points(3)}},
	} {
		var points plotter.XYs
		for i, v := range side.values {
			if v > 0 {
				points = append(points, plotter.XY{X: float64(g.Sizes[i]), Y: v})
				low, high = min(low, v), max(high, v)
			}
		}
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil { // there are none
			continue
		}
		line.Color, line.Width, line.Dashes = side.color, vg.Points(1.8), side.dashes
		dots.Color, dots.Shape, dots.Radius = side.color, draw.CircleGlyph{}, vg.Points(2.6)
		p.Add(line, dots)
		p.Legend.Add(side.name+": "+named(side.slope), line, dots)
	}
	p.Y.Min, p.Y.Max = low/2, high*math.Max(4, math.Sqrt(high/low)) // the legend's place
	return p
}

// powers marks the powers of ten.
func powers(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	first, last := int(math.Floor(math.Log10(low))), int(math.Ceil(math.Log10(high)))
	every := max(1, (last-first)/6)
	for e := first; e <= last; e++ {
		if v := math.Pow(10, float64(e)); v >= low && v <= high*1.001 {
			tick := plot.Tick{Value: v}
			if (e-first)%every == 0 {
				tick.Label = short(v)
			}
			ticks = append(ticks, tick)
		}
	}
	if len(ticks) < 2 {
		for _, v := range []float64{low, high} {
			ticks = append(ticks, plot.Tick{Value: v, Label: short(v)})
		}
	}
	return ticks
}
