package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
)

// summary is the last line of an output.
type summary struct {
	counts           map[string]int // all that are numbers
	wait, sequential time.Duration
}

func lastLine(t *testing.T, out string) summary {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	line, ok := strings.CutPrefix(lines[len(lines)-1], "takeout: ")
	if !ok {
		t.Fatalf("no summary in the last line of\n%s", out)
	}
	s := summary{counts: map[string]int{}}
	for field := range strings.FieldsSeq(line) {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch key {
		case "customer_wait_p50":
			s.wait, err = time.ParseDuration(value)
		case "sequential_wait":
			s.sequential, err = time.ParseDuration(value)
		default:
			s.counts[key], err = strconv.Atoi(value)
		}
		if err != nil {
			t.Errorf("%s: %v", field, err)
		}
	}
	return s
}

func (s summary) is(t *testing.T, out string, want map[string]int) {
	t.Helper()
	if !maps.Equal(s.counts, want) {
		t.Errorf("counts are %v, want %v, in\n%s", s.counts, want, out)
	}
}

// In a bubble nothing takes time but the simulated work, so that the waits are
// exact, at full scale too.

func TestCustomersWaitForTheOrderStepAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var out bytes.Buffer
		if err := run(t.Context(), nil, &out); err != nil {
			t.Fatal(err)
		}
		s := lastLine(t, out.String())
		s.is(t, out.String(), map[string]int{"orders": 300, "rider": 300, "merchant": 300, "ledger": 300, "lost": 0})
		if s.wait != paymentTime || s.sequential != paymentTime+3*serviceTime {
			t.Errorf("waits are %v and %v, want 500ms and 1.4s", s.wait, s.sequential)
		}
		has(t, out.String(), `(?m)^a customer waited +500ms +500ms +500ms$`)
		for _, name := range services {
			has(t, out.String(), `(?m)^`+name+` +300 +0 +0 +300ms +300ms +300ms$`)
		}
		if took := time.Since(began); took != 300*orderEvery+paymentTime+serviceTime {
			t.Errorf("it took %v", took)
		}
	})
}

func TestAServiceThatIsDownDelaysNobody(t *testing.T) {
	for _, failed := range []string{"rider", "merchant", "ledger", "coupons"} {
		t.Run(failed, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				if err := run(t.Context(), []string{"-fail", failed, "-with", "coupons"}, &out); err != nil {
					t.Fatal(err)
				}
				text := out.String()
				s := lastLine(t, text)
				s.is(t, text, map[string]int{"orders": 300, "rider": 300, "merchant": 300, "ledger": 300, "coupons": 300, "lost": 0})
				if s.wait != paymentTime {
					t.Errorf("customers waited %v, want 500ms", s.wait)
				}
				has(t, text, `(?m)^a customer waited +500ms +500ms +500ms$`)
				has(t, text, `(?m)^  3\.0s  answered 2[45]./300 .*\b`+failed+` down\b`)
				has(t, text, failed+` is back after 3\.8s, and 300 orders wait in its queue\.\nNobody else waited: .* have 0 orders left`)
				for _, name := range append(slices.Clone(services), extra...) {
					if name != failed {
						has(t, text, `(?m)^`+name+` +300 +0 +0 +300ms +300ms +300ms$`)
					}
				}
				// Five rounds of 60 workers from 3.8 s on; the first order was placed at 510 ms.
				has(t, text, `(?m)^`+failed+` +300 +0 +0 +300ms +\S+ +3\.59s$`)
			})
		})
	}
}

// The broker is restarted in the middle: customers who were waiting ask again.
func TestABrokerRestartLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const broker = "memory:restarted"
		client := openBus(t, broker).Driver().(*memory.Client)
		time.AfterFunc(1505*time.Millisecond, client.Broker().Restart)
		var out bytes.Buffer
		if err := run(t.Context(), []string{"-broker", broker, "-fail", "merchant"}, &out); err != nil {
			t.Fatal(err)
		}
		s := lastLine(t, out.String())
		s.is(t, out.String(), map[string]int{"orders": 300, "rider": 300, "merchant": 300, "ledger": 300, "lost": 0})
		has(t, out.String(), `(?m)^a customer waited +500ms +1\.\d+s +1\.\d+s$`) // some of them twice
	})
}

// The queues may be on the disk of this process, too, with nothing installed.
func TestOnDisk(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-scale", "0.2", "-broker", "jetstream://" + t.TempDir()}, &out); err != nil {
		t.Fatal(err)
	}
	lastLine(t, out.String()).is(t, out.String(), map[string]int{"orders": 300, "rider": 300, "merchant": 300, "ledger": 300, "lost": 0})
}

func TestANewServiceJoins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"-with", "coupons"}, &out); err != nil {
			t.Fatal(err)
		}
		s := lastLine(t, out.String())
		s.is(t, out.String(), map[string]int{"orders": 300, "rider": 300, "merchant": 300, "ledger": 300, "coupons": 300, "lost": 0})
		if s.wait != paymentTime || s.sequential != paymentTime+4*serviceTime {
			t.Errorf("waits are %v and %v, want 500ms and 1.7s", s.wait, s.sequential)
		}
	})
}

func TestScale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"-scale", "100"}, &out); err != nil { // longer than a call's default timeout
			t.Fatal(err)
		}
		if s := lastLine(t, out.String()); s.wait != 100*paymentTime || s.counts["ledger"] != 300 {
			t.Errorf("got %+v", s)
		}
	})
}

// Outside a bubble: real time, so only what must hold on any machine.
func TestInRealTime(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-scale", "0.05", "-fail", "merchant"}, &out); err != nil {
		t.Fatal(err)
	}
	s := lastLine(t, out.String())
	s.is(t, out.String(), map[string]int{"orders": 300, "rider": 300, "merchant": 300, "ledger": 300, "lost": 0})
	if s.wait < paymentTime/20 || s.sequential < s.wait+3*serviceTime/20 {
		t.Errorf("waits are %v and %v: shorter than the work", s.wait, s.sequential)
	}
}

func TestCtrlCDrains(t *testing.T) {
	for _, args := range [][]string{nil, {"-fail", "merchant"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// The hundredth order comes in just before, 50 have their answer.
				ctx, cancel := context.WithTimeout(t.Context(), 1005*time.Millisecond)
				defer cancel()
				began := time.Now()
				var out bytes.Buffer
				if err := run(ctx, args, &out); err != nil {
					t.Fatal(err)
				}
				lastLine(t, out.String()).is(t, out.String(), map[string]int{"orders": 100, "rider": 100, "merchant": 100, "ledger": 100, "lost": 0})
				has(t, out.String(), `No more orders are taken`)
				if took := time.Since(began); took > 3*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}

func TestAnEndedCtxStartsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, nil, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestBadLinesAreReportedAndTheRestGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"-orders", "testdata/bad.jsonl"}, &out); err != nil {
			t.Fatal(err)
		}
		lastLine(t, out.String()).is(t, out.String(), map[string]int{"orders": 3, "rider": 3, "merchant": 3, "ledger": 3, "lost": 0})
		has(t, out.String(), `(?m)^testdata/bad.jsonl:7: 17647 bytes, more than 16384$`)
	})
}

func TestArguments(t *testing.T) {
	for args, want := range map[string]string{
		"-role rider":                           "a memory broker lives in this process alone",
		"-role order":                           "a memory broker lives in this process alone",
		"-role cook":                            `-role "cook": must be one of all, order, rider, merchant, ledger, coupons`,
		"-fail cook":                            `-fail "cook": must be one of rider, merchant, ledger`,
		"-fail order":                           `-fail "order": must be one of`,
		"-fail coupons":                         `-fail "coupons": must be one of`, // it needs -with
		"-with rider":                           `-with "rider": must be one of coupons`,
		"-scale 0":                              "-scale 0: must be from",
		"-scale -1":                             "-scale -1: must be from",
		"-scale NaN":                            "-scale NaN: must be from",
		"-scale 1e9":                            "-scale 1e+09: must be from",
		"-orders testdata/missing":              "no such file",
		"-orders testdata":                      "testdata",
		"-orders takeout_test.go":               "takeout_test.go: no orders",
		"-broker pigeon://loft":                 "pigeon",
		"dinner":                                `unexpected argument "dinner"`,
		"-broker amqp: -fail rider -role order": "-fail is for -role all",
	} {
		if err := run(t.Context(), strings.Fields(args), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to contain %q", args, err, want)
		}
	}
}

// What the program must notice. A stranger on the same broker spoils it.

func TestLossIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const broker = "memory:thief"
		bus := openBus(t, broker)
		w := newWire(bus)
		if _, err := w.placed.Subscribe(t.Context(), func(context.Context, Placed) error { return nil }, patterns.Group("merchant")); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err := run(t.Context(), []string{"-broker", broker}, &out)
		s := lastLine(t, out.String())
		lost := s.counts["lost"]
		if lost == 0 || s.counts["merchant"] != 300-lost || s.counts["rider"] != 300 {
			t.Errorf("counts are %v", s.counts)
		}
		if want := fmt.Sprintf("%d orders were lost", lost); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

func TestCustomersWithoutAnAnswerAreNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const broker = "memory:broke"
		w := newWire(openBus(t, broker))
		decline := func(context.Context, Order) (Receipt, error) { return Receipt{}, errors.New("card declined") }
		if _, err := w.place.Serve(t.Context(), decline, patterns.ExposeErrors()); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err := run(t.Context(), []string{"-broker", broker}, &out)
		s := lastLine(t, out.String())
		n := s.counts["orders"]
		s.is(t, out.String(), map[string]int{"orders": n, "rider": n, "merchant": n, "ledger": n, "lost": 0})
		if want := fmt.Sprintf("%d customers got no answer", 300-n); n == 300 || err == nil ||
			!strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "card declined") {
			t.Errorf("got %v, want %s", err, want)
		}
	})
}

func TestEachRoleInAProcessOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const broker = "memory:roles"
		openBus(t, broker) // keeps the broker
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var outs [5]bytes.Buffer
		var processes sync.WaitGroup
		process := func(i int, role string, serve func(context.Context, wire, *screen, options) error) {
			opts := options{Options: demo.Options{Broker: broker, Role: role}, scale: 1, with: "coupons"}
			bus, closeBus, err := opts.Open(ctx)
			if err != nil {
				t.Fatal(err)
			}
			processes.Go(func() {
				if err := errors.Join(serve(ctx, newWire(bus), newScreen(&outs[i]), opts), closeBus()); err != nil {
					t.Errorf("%s: %v", role, err)
				}
				cancel() // the order service is the first to end
			})
		}
		process(0, "order", peak)
		for i, role := range append(slices.Clone(services), extra...) {
			time.Sleep(time.Second)
			process(i+1, role, serveAlone)
		}
		processes.Wait()
		s := lastLine(t, outs[0].String())
		s.is(t, outs[0].String(), map[string]int{"orders": 300, "rider": 300, "merchant": 300, "ledger": 300, "coupons": 300, "lost": 0})
		if s.wait != paymentTime {
			t.Errorf("customers waited %v", s.wait)
		}
		for i, name := range append(slices.Clone(services), extra...) {
			lastLine(t, outs[i+1].String()).is(t, outs[i+1].String(), map[string]int{name: 300})
		}
	})
}

func openBus(t *testing.T, url string) *patterns.Bus {
	t.Helper()
	bus, err := patterns.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := bus.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return bus
}

func has(t *testing.T, out, pattern string) {
	t.Helper()
	if !regexp.MustCompile(pattern).MatchString(out) {
		t.Errorf("no match for %s in\n%s", pattern, out)
	}
}
