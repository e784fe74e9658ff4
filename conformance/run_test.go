package conformance

import (
	"context"
	"errors"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

// outcome runs one case, and returns what came of it.
func outcome(t *testing.T, open Opener, claims adapters.Features, c Case) (r Result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		report, err := check(t.Context(), []Case{c}, open, claims)
		if err != nil {
			t.Error(err)
		}
		r = report.Results[0]
	})
	return r
}

// wantFail checks that a case failed, and that one of its reasons has all of these words.
func wantFail(t *testing.T, r Result, words ...string) {
	t.Helper()
	if r.Outcome != Fail {
		t.Errorf("the outcome is %s %q, want a failure", r.Outcome, r.Why)
	}
	if !slices.ContainsFunc(r.Why, func(why string) bool {
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(why, word) })
	}) {
		t.Errorf("no reason has all of %q: %q", words, r.Why)
	}
}

// These are in no bubble, which would wait for what hangs.

func TestHungCaseIsLeftBehind(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	problems, _ := newTrial("test/hangs", harness(memory.New()), onMemoryClaims).executeWithin(ctx, 50*time.Millisecond, func(t *trial) {
		t.spawn(func() { hangAround(release) })
		hangAround(release)
	})
	wantFail(t, Result{Outcome: Fail, Why: problems}, "did not come to an end",
		"conformance.hangAround (run_test.go:", "(*trial).guarded", "(*trial).spawn")
}

func hangAround(until chan struct{}) { <-until }

// TestHungHookIsNamed: it is not the adapter's, but somebody must be told.
func TestHungHookIsNamed(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	h := harness(memory.New())
	h.Restart = func(context.Context) error { hangAround(release); return nil }
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	problems, _ := newTrial("test/hook", h, onMemoryClaims).executeWithin(ctx, 50*time.Millisecond, func(t *trial) {
		t.must(t.h.Restart(t.ctx), "restarting")
	})
	wantFail(t, Result{Outcome: Fail, Why: problems}, "did not come to an end", "conformance.hangAround")
}

func TestPanicIsAFailure(t *testing.T) {
	wantFail(t, outcome(t, onMemory, onMemoryClaims, Case{ID: "test/panics", run: func(*trial) { panic("ouch") }}),
		"panic: ouch", "TestPanicIsAFailure", "run_test.go")
	wantFail(t, outcome(t, onMemory, onMemoryClaims, Case{ID: "test/panics", run: func(t *trial) {
		t.spawn(func() { panic("ouch") })
	}}), "panic: ouch")
}

func TestHarnessThatDoesNotOpen(t *testing.T) {
	fails := Case{ID: "test/unopened", run: func(t *trial) { t.errorf("it ran") }}
	for name, c := range map[string]struct {
		open Opener
		want string
	}{
		"error":      {func(context.Context) (*Harness, error) { return nil, errors.New("no broker") }, "no broker"},
		"nil":        {func(context.Context) (*Harness, error) { return nil, nil }, "cannot connect"},
		"no connect": {func(context.Context) (*Harness, error) { return &Harness{}, nil }, "cannot connect"},
		"panic":      {func(context.Context) (*Harness, error) { panic("ouch") }, "panic: ouch"},
		"too slow":   {func(ctx context.Context) (*Harness, error) { <-ctx.Done(); return nil, nil }, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			r := outcome(t, c.open, onMemoryClaims, fails)
			wantFail(t, r, "the harness cannot be opened", c.want)
			if len(r.Why) != 1 {
				t.Errorf("reasons: %q", r.Why)
			}
		})
	}
}

// TestLeakIsAFailure: but what a hook starts is the broker's.
func TestLeakIsAFailure(t *testing.T) {
	release := make(chan struct{})
	h := harness(memory.New())
	h.Restart = func(context.Context) error { go hangAround(release); return nil }
	leaky := func(leak func(t *trial)) []string {
		problems, _ := newTrial("test/leak", h, onMemoryClaims).execute(t.Context(), leak)
		return problems
	}
	if problems := leaky(func(t *trial) { t.must(t.h.Restart(t.ctx), "restarting") }); problems != nil {
		t.Errorf("what the broker started counts as the adapter's: %q", problems)
	}
	wantFail(t, Result{Outcome: Fail, Why: leaky(func(*trial) { go hangAround(release) })}, "goroutines are left", "conformance.hangAround")
	close(release)
}

func TestCheckEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		cases := []Case{
			{ID: "test/restarts", Hooks: WithRestart, run: func(t *trial) { cancel(enough); <-t.ctx.Done(); t.errorf("it ended") }},
			{ID: "test/later", Hooks: WithRestart, run: func(t *trial) { t.errorf("it ran") }},
			{ID: "test/done", run: func(*trial) {}}, // runs first, for the others are alone
		}
		report, err := check(ctx, cases, onMemory, onMemoryClaims)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Check returned %v", err)
		}
		for i, want := range []Outcome{NotRun, NotRun, Pass} {
			if r := report.Results[i]; r.ID != cases[i].ID || r.Outcome != want {
				t.Errorf("%s: %s %q, want %s", r.ID, r.Outcome, r.Why, want)
			}
		}
		if why := report.Results[1].Why; len(why) != 1 || !strings.Contains(why[0], "enough") {
			t.Errorf("not run because of %q", why)
		}
		if report.Passed() {
			t.Error("a run that ended early has passed")
		}
	})
}

// TestUnclaimedMustBeRefused: an adapter that can do more than it claims has
// not refused what it does not claim.
func TestUnclaimedMustBeRefused(t *testing.T) {
	for _, ability := range adapters.Abilities() {
		t.Run(ability.String(), func(t *testing.T) {
			claims := adapters.Features{Adapter: "memory", Ability: onMemoryClaims.Ability &^ ability}
			c := Case{ID: "test/needs", Needs: ability, run: func(t *trial) { t.errorf("it ran") }}
			if ability&refusable == 0 {
				if r := outcome(t, onMemory, claims, c); r.Outcome != NotClaimed {
					t.Errorf("the outcome is %s %q", r.Outcome, r.Why)
				}
				return
			}
			wantFail(t, outcome(t, onMemory, claims, c), "with "+ability.String()+" is not claimed, and ")

			x := mutant{mutate: limited(claims.Ability)}
			if r := outcome(t, x.open, claims, c); r.Outcome != Refused {
				t.Errorf("refused cleanly, the outcome is %s %q", r.Outcome, r.Why)
			}
			claims.Adapter = "another"
			wantFail(t, outcome(t, x.open, claims, c), `in the name of "memory", not of "another"`)
		})
	}
}

func TestLackOfAHookIsNotApplicable(t *testing.T) {
	c := Case{ID: "test/freezes", Hooks: WithFreeze | WithCut, run: func(t *trial) { t.errorf("it ran") }}
	open := func(context.Context) (*Harness, error) {
		h := harness(memory.New())
		h.Freeze = nil
		return h, nil
	}
	r := outcome(t, open, onMemoryClaims, c)
	if r.Outcome != NotApplicable || !slices.Equal(r.Why, []string{"the harness has no hook: freeze"}) {
		t.Errorf("%s %q", r.Outcome, r.Why)
	}
}

// TestFailuresAreTheSameEachTime: a name that is never used twice would make
// each report a new one.
func TestFailuresAreTheSameEachTime(t *testing.T) {
	c := Case{ID: "test/names", run: func(t *trial) { t.errorf("%s is wrong", t.name("queue")) }}
	for range 2 {
		wantFail(t, outcome(t, onMemory, onMemoryClaims, c), "conformance-queue is wrong")
	}
}

// TestReadableStack holds the profile's format, which nothing promises.
func TestReadableStack(t *testing.T) {
	var b strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		t.Fatal(err)
	}
	if got := readable(b.String()); !strings.Contains(got, "conformance.TestReadableStack (run_test.go:") || strings.Contains(got, "0x") {
		t.Errorf("read as:\n%s", got)
	}
}

func TestLongListsAreShownWhereTheyDiffer(t *testing.T) {
	long := numbered("m", 30)
	for _, c := range []struct {
		got, want []string
		why       string
	}{
		{long[:2], long[:3], "ids: got [m-1 m-2], want [m-1 m-2 m-3]"},
		{long[:29], long, "ids: got 29, want 30; from number 30 on got [], want [m-30]"},
		{append(numbered("m", 22), "x"), long, "ids: got 23, want 30; from number 23 on got [x], want [m-23 m-24 m-25 m-26 m-27]"},
	} {
		x := &trial{}
		same(x, c.got, c.want, "ids")
		if !slices.Equal(x.problems, []string{c.why}) {
			t.Errorf("got %q, want %q", x.problems, c.why)
		}
	}
}
