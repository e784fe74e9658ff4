// Package cron makes schedules of cron expressions, for [patterns.WorkQueue.Schedule]. It is a
// module of its own, over github.com/robfig/cron/v3.
//
//	nightly, err := cron.Parse("30 2 * * *", berlin)
//	_, err = reports.Schedule(ctx, "nightly", nightly, reportOf)
//
// # When clocks change
//
// A schedule of every hour ("*/10 * * * *", "@hourly") goes on as if nothing had happened: an hour
// that is repeated has its times twice, and one that is left out has none.
//
// Any other schedule means the clock on the wall, as Vixie cron has it. A time that is left out,
// as 02:30 in the night when clocks go forward, comes as long after midnight as ever, when clocks
// show 03:30. A time that is repeated comes the first time only. So what is due once a day is due
// once each day.
//
// A schedule that package robfig/cron itself parses is a [patterns.Schedule] too, but leaves out
// and repeats such times, and its "@every 1h" depends on when it began.
package cron

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// Parse returns the schedule of a cron expression, in the time zone in, or in UTC if that is nil.
// The expression has five fields (minute, hour, day of the month, month, day of the week), or is
// one of @yearly, @monthly, @weekly, @daily, @hourly and "@every 90m", which is [patterns.Every].
// Names of months and days, lists, ranges and steps are as in package robfig/cron; a day matches
// where both its fields are given if one of them does. "CRON_TZ=Europe/Berlin 0 3 * * *" names a
// zone itself, and in has to be nil then. An error wraps adapters.ErrInvalid.
//
// A schedule that is never due, as on the 30th of February, is reported where it is used.
func Parse(expr string, in *time.Location) (patterns.Schedule, error) {
	zone, rest := zoneOf(expr)
	if zone != "" {
		named, err := time.LoadLocation(zone)
		if err == nil && in != nil {
			err = errZone
		}
		if err != nil {
			return nil, invalid(expr, err)
		}
		in = named
	}
	if in == nil {
		in = time.UTC
	}
	if text, ok := strings.CutPrefix(rest, "@every "); ok {
		d, err := time.ParseDuration(text)
		if err == nil && d < time.Second {
			err = errEvery
		}
		if err != nil {
			return nil, invalid(expr, err)
		}
		return patterns.Every(d), nil
	}
	if strings.HasPrefix(rest, "CRON_TZ=") || strings.HasPrefix(rest, "TZ=") { // another one
		return nil, invalid(expr, errZone)
	}
	parsed, err := cron.ParseStandard(rest)
	if err != nil {
		return nil, invalid(expr, err)
	}
	spec, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return nil, invalid(expr, errors.ErrUnsupported)
	}
	if spec.Hour&everyHour == everyHour {
		spec.Location = in
		return spec, nil
	}
	spec.Location = time.UTC
	return &daily{spec, in}, nil
}

const everyHour = 1<<24 - 1 // the bits of all hours

var (
	errZone  = errors.New("it names a time zone, and another is given")
	errEvery = errors.New("@every takes at least a second")
)

func invalid(expr string, err error) error {
	return fmt.Errorf("%w: cron expression %q: %w", adapters.ErrInvalid, expr, err)
}

// zoneOf splits the name of a time zone from an expression, or returns "".
func zoneOf(expr string) (zone, rest string) {
	for _, prefix := range []string{"CRON_TZ=", "TZ="} {
		if after, ok := strings.CutPrefix(expr, prefix); ok {
			zone, rest, _ = strings.Cut(after, " ")
			return zone, strings.TrimSpace(rest)
		}
	}
	return "", expr
}

// daily is a schedule that means the clock on the wall.
type daily struct {
	wall *cron.SpecSchedule // as if the clock on the wall showed UTC
	in   *time.Location
}

// Next implements [patterns.Schedule].
func (s *daily) Next(t time.Time) (next time.Time) {
	// What is left out comes later than the wall has it, so begin as much before t.
	for w := wallOf(t.In(s.in)).Add(-maxChange); ; {
		w = s.wall.Next(w)
		switch due := s.instant(w); {
		case w.IsZero():
			return next
		case due.After(t) && (next.IsZero() || due.Before(next)):
			next = due.In(t.Location())
		}
		if next.IsZero() {
			continue
		}
		// Where next was left out, something that comes later on the wall may be due before it.
		if shown := wallOf(next.In(s.in)); !w.Before(shown) {
			return next
		}
	}
}

// maxChange is more than clocks change by.
const maxChange = 3 * time.Hour

// wallOf returns what a clock on the wall shows, as if it were UTC.
func wallOf(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// instant returns when the clock on the wall shows w for the first time, or, if it never does, when
// it would have without the change.
func (s *daily) instant(w time.Time) time.Time {
	_, before := w.Add(-24 * time.Hour).In(s.in).Zone() // clocks change once in two days
	_, after := w.Add(24 * time.Hour).In(s.in).Zone()
	first := w.Add(-time.Duration(before) * time.Second).In(s.in)
	second := w.Add(-time.Duration(after) * time.Second).In(s.in)
	if !wallOf(first).Equal(w) && wallOf(second).Equal(w) {
		return second
	}
	return first
}
