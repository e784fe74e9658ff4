package cron_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	_ "time/tzdata"

	robfig "github.com/robfig/cron/v3"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/cron"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// The night in which clocks change, in each direction, and in a zone that changes by half an hour.
func TestWhenClocksChange(t *testing.T) {
	const (
		spring   = "2026-03-29T00:00:00+01:00" // 02:00 is 03:00
		autumn   = "2026-10-25T00:00:00+02:00" // 03:00 is 02:00
		howe     = "2026-10-04T00:00:00+10:30" // 02:00 is 02:30
		howeBack = "2026-04-05T00:00:00+11:00" // 02:00 is 01:30
	)
	for _, c := range []struct {
		zone, expr, from string
		want             []string // the first ones
	}{
		{"Europe/Berlin", "30 2 * * *", spring, []string{"29 03:30 +0200", "30 02:30 +0200"}},
		{"Europe/Berlin", "30 2 * * *", autumn, []string{"25 02:30 +0200", "26 02:30 +0100"}},
		{"Europe/Berlin", "0 3 * * *", spring, []string{"29 03:00 +0200", "30 03:00 +0200"}},
		{"Europe/Berlin", "0 3 * * *", autumn, []string{"25 03:00 +0100", "26 03:00 +0100"}},
		{"Europe/Berlin", "0 2 * * *", spring, []string{"29 03:00 +0200", "30 02:00 +0200"}},
		{"Europe/Berlin", "15,45 2,3 * * *", spring, []string{"29 03:15 +0200", "29 03:45 +0200", "30 02:15 +0200"}},
		{"Europe/Berlin", "15,45 2,3 * * *", autumn, []string{"25 02:15 +0200", "25 02:45 +0200", "25 03:15 +0100", "25 03:45 +0100"}},
		{"Europe/Berlin", "0 */2 * * *", autumn, []string{"25 02:00 +0200", "25 04:00 +0100"}},
		{"Europe/Berlin", "30 * * * *", spring, []string{"29 00:30 +0100", "29 01:30 +0100", "29 03:30 +0200"}},
		{"Europe/Berlin", "30 * * * *", autumn, []string{"25 00:30 +0200", "25 01:30 +0200", "25 02:30 +0200", "25 02:30 +0100", "25 03:30 +0100"}},
		{"Europe/Berlin", "@hourly", autumn, []string{"25 01:00 +0200", "25 02:00 +0200", "25 02:00 +0100", "25 03:00 +0100"}},
		{"Europe/Berlin", "@daily", autumn, []string{"26 00:00 +0100"}},
		{"America/New_York", "30 2 * * 0", "2026-03-08T00:00:00-05:00", []string{"08 03:30 -0400", "15 02:30 -0400"}},
		{"Australia/Lord_Howe", "10,35 2 * * *", howe, []string{"04 02:35 +1100", "04 02:40 +1100", "05 02:10 +1100"}},
		{"Australia/Lord_Howe", "45 1 * * *", howeBack, []string{"05 01:45 +1100", "06 01:45 +1030"}},
		{"America/Sao_Paulo", "0 0 * * *", "2018-11-03T12:00:00-03:00", []string{"04 01:00 -0200", "05 00:00 -0200"}},
		{"Africa/Cairo", "0 0 * * *", "2026-04-23T12:00:00+02:00", []string{"24 01:00 +0300", "25 00:00 +0300"}},
		{"UTC", "30 2 * * *", spring, []string{"29 02:30 +0000", "30 02:30 +0000"}},
	} {
		t.Run(c.zone+" "+c.expr+" "+c.from[:7], func(t *testing.T) {
			loc := zone(t, c.zone)
			s, err := cron.Parse(c.expr, loc)
			if err != nil {
				t.Fatal(err)
			}
			from, err := time.Parse(time.RFC3339, c.from)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for at := from.UTC(); len(got) < len(c.want); {
				next := s.Next(at)
				if next.Location() != time.UTC || !next.After(at) {
					t.Fatalf("%v after %v", next, at)
				}
				at = next
				got = append(got, at.In(loc).Format("02 15:04 -0700"))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// What is due does not depend on where one starts, and once a day is once each day, for years.
func TestEachDayOnce(t *testing.T) {
	for _, name := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago"} {
		loc := zone(t, name)
		for _, hour := range []int{0, 1, 2, 3, 23} {
			s, err := cron.Parse(fmt.Sprintf("%d %d * * *", hour*7%60, hour), loc)
			if err != nil {
				t.Fatal(err)
			}
			at := time.Date(2024, 12, 31, 23, 59, 59, 0, loc)
			for day := range 365 {
				next := s.Next(at)
				want := time.Date(2025, 1, 1+day, 12, 0, 0, 0, loc)
				if y, m, d := next.In(loc).Date(); time.Date(y, m, d, 12, 0, 0, 0, loc) != want {
					t.Fatalf("%s, %d h: %v, want a time on %v", name, hour, next.In(loc), want)
				}
				if again := s.Next(next.Add(-time.Nanosecond)); !again.Equal(next) {
					t.Fatalf("%s, %d h: from just before %v it is %v", name, hour, next, again)
				}
				at = next
			}
		}
	}
}

func TestParse(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	at := time.Date(2026, 7, 1, 12, 30, 0, 0, time.UTC)
	for _, c := range []struct {
		expr string
		in   *time.Location
		want string // in UTC, or "" for an error
	}{
		{"0 3 * * *", nil, "2026-07-02T03:00:00Z"},
		{"0 3 * * *", berlin, "2026-07-02T01:00:00Z"},
		{"CRON_TZ=Europe/Berlin 0 3 * * *", nil, "2026-07-02T01:00:00Z"},
		{"TZ=Europe/Berlin  0 3 * * *", nil, "2026-07-02T01:00:00Z"},
		{"TZ=Europe/Berlin @daily", nil, "2026-07-01T22:00:00Z"},
		{"@every 90m", nil, "2026-07-01T13:30:00Z"},
		{"@monthly", berlin, "2026-07-31T22:00:00Z"},
		{"0 9 1 * mon", nil, "2026-07-06T09:00:00Z"},
		{"0 9 29 feb *", nil, "2028-02-29T09:00:00Z"},
		{"CRON_TZ=Europe/Berlin 0 3 * * *", berlin, ""},
		{"CRON_TZ=Nowhere 0 3 * * *", nil, ""},
		{"CRON_TZ=UTC", nil, ""},
		{"CRON_TZ=UTC TZ=UTC 0 3 * * *", nil, ""},
		{"TZ=", nil, ""},
		{"@every 1ms", nil, ""},
		{"@every", nil, ""},
		{"@often", nil, ""},
		{"0 3 * *", nil, ""},
		{"0 0 3 * * *", nil, ""},
		{"61 3 * * *", nil, ""},
		{"", nil, ""},
	} {
		s, err := cron.Parse(c.expr, c.in)
		if c.want == "" {
			if !isInvalid(err) {
				t.Errorf("%q: %v, %v", c.expr, s, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.expr, err)
		} else if got := s.Next(at).UTC().Format(time.RFC3339); got != c.want {
			t.Errorf("%q: %s, want %s", c.expr, got, c.want)
		}
	}
	if s, err := cron.Parse("0 0 30 2 *", berlin); err != nil || !s.Next(at).IsZero() {
		t.Errorf("the 30th of February: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, expr := range []string{"0 3 * * *", "TZ=UTC */5 1-3,7 * jan mon", "@every 1h", "TZ=", "@"} {
		f.Add(expr)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		if s, err := cron.Parse(expr, nil); err == nil {
			at := time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC)
			if next := s.Next(at); !next.IsZero() && !next.After(at) {
				t.Errorf("%q: %v", expr, next)
			}
		} else if !isInvalid(err) {
			t.Errorf("%q: %v", expr, err)
		}
	})
}

func isInvalid(err error) bool { return errors.Is(err, adapters.ErrInvalid) }

// Two processes, through the night in which 02:30 comes twice: one message, as on each other night.
// A schedule of package robfig/cron itself will do as well.
func TestThroughAutumn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2001, 10, 27, 12, 0, 0, 0, time.UTC))) // clocks change on the 28th
		berlin := zone(t, "Europe/Berlin")
		broker := memory.New()
		defer broker.Close()
		nightly, err := cron.Parse("30 2 * * *", berlin)
		if err != nil {
			t.Fatal(err)
		}
		noon, err := robfig.ParseStandard("CRON_TZ=Europe/Berlin 0 12 * * *")
		if err != nil {
			t.Fatal(err)
		}
		var q *patterns.WorkQueue[string]
		for range 2 {
			bus := patterns.New(broker.Connect())
			defer bus.Close(context.Background())
			q = patterns.NewWorkQueue[string](bus, "reports")
			local := func(at time.Time) string { return at.In(berlin).Format("02 15:04") }
			for name, s := range map[string]patterns.Schedule{"nightly": nightly, "noon": noon} {
				if _, err := q.Schedule(t.Context(), name, s, local); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(48 * time.Hour)
		var got []string
		for m, err := range q.Waiting(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m.Value)
		}
		if want := []string{"28 02:30", "28 12:00", "29 02:30", "29 12:00"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
