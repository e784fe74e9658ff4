package main

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTallyCountsIds(t *testing.T) {
	y := newTally("tonight", []string{"rider", "ledger"})
	y.answered("1", time.Second, nil)
	y.answered("2", time.Second, nil)
	y.answered("3", time.Second, errors.New("declined"))
	for _, d := range []Done{
		{Run: "tonight", Service: "rider", OrderID: "1"},
		{Run: "tonight", Service: "rider", OrderID: "1"},   // a repeat
		{Run: "tonight", Service: "rider", OrderID: "3"},   // handled, though its customer was not told
		{Run: "tonight", Service: "rider", OrderID: "4"},   // its customer is about to be
		{Run: "yesterday", Service: "rider", OrderID: "2"}, // of another run
		{Run: "tonight", Service: "weather", OrderID: "2"}, // nobody asked
		{Run: "tonight", Service: "ledger", OrderID: "2"},
	} {
		if err := y.done(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	y.answered("4", time.Second, nil)
	if got := y.owed("rider"); got != 1 { // 2
		t.Errorf("the rider owes %d", got)
	}
	if got := y.owed("ledger"); got != 2 { // 1 and 4
		t.Errorf("the ledger owes %d", got)
	}
	has(t, y.report(), `(?m)^rider +3 +1 +1 `)
	has(t, y.report(), `(?m)^takeout: orders=3 rider=3 ledger=1 lost=3 `)
	if err := y.verdict(); err == nil || err.Error() != "3 orders were lost\n1 customers got no answer, the first for: declined" {
		t.Errorf("the verdict is %v", err)
	}
}

func TestAwaitIsPatientWithProgressOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := newTally("tonight", []string{"rider"})
		for _, id := range []string{"1", "2", "3"} {
			y.answered(id, 0, nil)
		}
		began := time.Now()
		go func() {
			for _, id := range []string{"1", "2", "2", "2"} { // a repeat is no progress
				time.Sleep(6 * time.Second)
				_ = y.done(t.Context(), Done{Run: "tonight", Service: "rider", OrderID: id})
			}
		}()
		y.await(10*time.Second, "rider")
		if took := time.Since(began); took != 22*time.Second {
			t.Errorf("gave up after %v, want 22s", took)
		}
		time.Sleep(6 * time.Second) // the last repeat
	})
}

func TestPercentiles(t *testing.T) {
	waits := []time.Duration{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for p, want := range map[int]time.Duration{0: 1, 50: 5, 51: 6, 95: 10, 100: 10} {
		if got := at(p, waits); got != want {
			t.Errorf("percentile %d is %d, want %d", p, got, want)
		}
	}
	if at(50, nil) != 0 {
		t.Error("of nothing, not 0")
	}
	if got := round(1_403_245_678).String() + round(501_734_000).String() + round(17).String(); got != "1.4s502ms17ns" {
		t.Errorf("rounded to %s", got)
	}
}
