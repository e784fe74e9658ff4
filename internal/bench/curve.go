package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
)

// A Curve is how some figures grow with a number.
type Curve struct {
	Name      string // growth/what
	Of        string // the number is that of these
	Baseline  string
	Sizes     []int
	Figures   []Figure
	Ours      Grow
	Theirs    Grow
	InProcess bool
}

// Grow makes that many, and returns the figures by name.
type Grow func(ctx context.Context, r *Run, size int) (map[string]float64, error)

// A Figure is one that grows.
type Figure struct {
	Name string
	Unit string

	Each float64 // target: at most, for each one of the largest size; 0 is none
	Flat float64 // target: so many times what each one of the smallest costs, at most
}

// A Growth is what became of one figure of a curve.
type Growth struct {
	Curve       string    `json:"curve"`
	Figure      string    `json:"figure"`
	Unit        string    `json:"unit"`
	Of          string    `json:"of"`
	Baseline    string    `json:"baseline"`
	Sizes       []int     `json:"sizes"`
	Ours        []float64 `json:"ours"` // in all, at each size: the median
	Theirs      []float64 `json:"theirs"`
	OursSlope   float64   `json:"ours_slope"` // the exponent of the size
	TheirsSlope float64   `json:"theirs_slope"`
	OursEach    float64   `json:"ours_each"` // of the largest size
	TheirsEach  float64   `json:"theirs_each"`
	Target      string    `json:"target,omitempty"`
	Met         *bool     `json:"met,omitempty"`
}

// grow measures a curve: each size several times, ours and theirs in turn.
func (p *plan) grow(ctx context.Context, c *Curve, url string) ([]*Growth, error) {
	var growths []*Growth
	for _, f := range c.Figures {
		growths = append(growths, &Growth{Curve: c.Name, Figure: f.Name, Unit: f.Unit, Of: c.Of, Baseline: c.Baseline, Sizes: c.Sizes})
	}
	for _, size := range c.Sizes {
		measured := map[bool][]map[string]float64{}
		for i := range p.rounds {
			p.progress("%d %s, %d of %d", size, c.Of, i+1, p.rounds)
			for _, ours := range []bool{true, false} {
				var figures map[string]float64
				if err := p.start(ctx, url, ours, &figures, "-curve", c.Name, "-size", strconv.Itoa(size)); err != nil {
					return nil, err
				}
				measured[ours] = append(measured[ours], figures)
			}
		}
		for _, g := range growths {
			of := func(ours bool) float64 {
				var all []float64
				for _, figures := range measured[ours] {
					all = append(all, figures[g.Figure])
				}
				slices.Sort(all)
				return median(all)
			}
			g.Ours, g.Theirs = append(g.Ours, of(true)), append(g.Theirs, of(false))
		}
	}
	for i, g := range growths {
		g.conclude(c.Figures[i])
	}
	return growths, nil
}

func (g *Growth) conclude(f Figure) {
	last := len(g.Sizes) - 1
	each := func(values []float64, i int) float64 { return values[i] / float64(g.Sizes[i]) }
	g.OursSlope, g.TheirsSlope = slope(g.Sizes, g.Ours), slope(g.Sizes, g.Theirs)
	g.OursEach, g.TheirsEach = each(g.Ours, last), each(g.Theirs, last)
	met := true
	if f.Each > 0 {
		g.Target = fmt.Sprintf("each <= %g %s", f.Each, f.Unit)
		met = g.OursEach <= f.Each
	}
	if f.Flat > 0 {
		if g.Target != "" {
			g.Target += ", "
		}
		g.Target += fmt.Sprintf("flat within %gx", f.Flat)
		met = met && g.OursEach <= f.Flat*each(g.Ours, 0)
	}
	if g.Target != "" {
		g.Met = &met
	}
}

// slope is the exponent that fits best: of values that grow as size^slope.
func slope(sizes []int, values []float64) float64 {
	var n, sx, sy, sxx, sxy float64
	for i, v := range values {
		if v <= 0 {
			continue
		}
		x, y := math.Log(float64(sizes[i])), math.Log(v)
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if n < 2 {
		return 0
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// named says what a slope means.
func named(slope float64) string {
	word := "superlinear"
	switch {
	case slope < 0.1:
		word = "constant"
	case slope < 0.9:
		word = "sublinear"
	case slope <= 1.1:
		word = "linear"
	}
	return fmt.Sprintf("n^%.2f, %s", slope, word)
}

// growChild does one size of a curve, and writes the figures as a line of JSON.
func growChild(ctx context.Context, c *Curve, ours bool, r *Run, size int, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	grow := c.Theirs
	if ours {
		grow = c.Ours
	}
	figures, err := grow(ctx, r, size)
	if err != nil {
		return err
	}
	for _, f := range c.Figures {
		if _, ok := figures[f.Name]; !ok {
			return fmt.Errorf("%s did not measure %s", c.Name, f.Name)
		}
	}
	return json.NewEncoder(out).Encode(figures)
}
