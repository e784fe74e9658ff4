package trial

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/conformance/history"
)

// brokerURL returns the URL of a broker that lasts as long as the test.
func brokerURL(t *testing.T) string {
	url := "memory://" + strings.NewReplacer("/", ".", " ", ".").Replace(t.Name())
	d, err := adapters.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	return url
}

// cutting has connections be cut again and again under load.
func cutting(url string) func(*Trial) {
	return func(x *Trial) {
		x.Left = url
		publisher, consumer := x.Open("publisher", url), x.Open("consumer", url)
		x.Consume(x.Subscribe(consumer, From("jobs", 5)), 2)
		s := x.Stream(publisher, To("jobs"), "job", 2, 16, 0)
		for range 20 {
			x.Flowing("messages flow", 20, s)
			for _, d := range []*history.Driver{publisher, consumer} {
				memoryOf(d).Cut()
			}
		}
		x.Finish(s)
		if !IsUp(publisher) || s.Confirmed() < 400 || s.Nacked() > 0 {
			x.Errorf("up: %v, %d confirmed, %d nacked", IsUp(publisher), s.Confirmed(), s.Nacked())
		}
	}
}

// memoryOf returns the client that d records.
func memoryOf(d adapters.Driver) *memory.Client {
	for {
		if c, ok := d.(*memory.Client); ok {
			return c
		}
		d = d.(interface{ Unwrap() adapters.Driver }).Unwrap()
	}
}

func TestNothingIsLost(t *testing.T) {
	v, problems := New().Do(cutting(brokerURL(t)))
	if len(problems) > 0 || v.Lost > 0 || v.Unexpected > 0 || v.Attempted < 400 {
		t.Errorf("%v: %q", v, problems)
	}
}

// forgetful confirms one message that it does not send.
type forgetful struct{ adapters.Driver }

func (d *forgetful) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	if msgs[0].UUID == "job-7" {
		return nil
	}
	return d.Driver.Publish(ctx, p, msgs...)
}

// heedless takes longer than ctx allows.
type heedless struct{ adapters.Driver }

func (d *heedless) Publish(ctx context.Context, p adapters.Publication, msgs ...*message.Message) error {
	if msgs[0].UUID == "job-7" {
		time.Sleep(8 * time.Second) // in virtual time
	}
	return d.Driver.Publish(ctx, p, msgs...)
}

// TestFaultsAreFound: a trial is worth what it finds.
func TestFaultsAreFound(t *testing.T) {
	send := func(x *Trial, url string) {
		x.Left = url
		d := x.Open("client", url)
		x.Must(d.Declare(x.Brief(), From("jobs", 1)), "declaring")
		for i := range 30 {
			m := Message(fmt.Sprint("job-", i), 1)
			_ = x.Within(time.Second, "Publish", func(ctx context.Context) error { return d.Publish(ctx, To("jobs"), m) })
		}
	}
	for name, tt := range map[string]struct {
		wrap func(adapters.Driver) adapters.Driver
		row  func(*Trial, string)
		want []string // and nothing else
	}{
		"nothing": {row: send},
		"a message is dropped": {
			wrap: func(d adapters.Driver) adapters.Driver { return &forgetful{d} },
			row:  send, want: []string{`lost: message "job-7"`},
		},
		"a call does not heed its ctx": {
			wrap: func(d adapters.Driver) adapters.Driver { return &heedless{d} },
			row:  send, want: []string{"overdue: client Publish", "overdue: row Publish"},
		},
		"nobody can look for what is left": {
			row:  func(x *Trial, _ string) { x.Left = "nowhere:" },
			want: []string{"looking for what is left: "},
		},
		"nothing moves": {
			row:  func(x *Trial, _ string) { x.Await("something", func() bool { return false }) },
			want: []string{"something: waited in vain"},
		},
		"a row ends itself": {
			row:  func(x *Trial, _ string) { x.Must(adapters.ErrNacked, "what must work"); x.Errorf("went on") },
			want: []string{"what must work: "},
		},
		"a row panics": {row: func(*Trial, string) { panic("oops") }, want: []string{"panic: oops"}},
		"a broker is not there": {
			row: func(x *Trial, _ string) { x.Open("client", "nowhere:") }, want: []string{"connecting client: "},
		},
		"something cannot be put away": {
			row:  func(x *Trial, _ string) { x.AtEnd(func(context.Context) error { return adapters.ErrClosed }) },
			want: []string{"putting away: "},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				url := brokerURL(t)
				x := New()
				x.Wrap = tt.wrap
				_, problems := x.Do(func(x *Trial) { tt.row(x, url) })
				for i, p := range problems {
					if i >= len(tt.want) || !strings.HasPrefix(p, tt.want[i]) {
						t.Errorf("got %q, want %q", problems, tt.want)
						return
					}
				}
				if len(problems) < len(tt.want) {
					t.Errorf("got %q, want %q", problems, tt.want)
				}
			})
		})
	}
}

func TestTable(t *testing.T) {
	results := &table{rows: []Row{{Name: "a", Fault: "first"}, {Name: "b", Fault: "second"}, {Name: "c", Fault: "third"}}, results: map[string]result{}}
	results.set("a", result{verdict: history.Verdict{Counts: history.Counts{Attempted: 7}}})
	results.set("b", result{verdict: history.Verdict{Counts: history.Counts{Lost: 3}}, failed: true})
	text := results.String()
	lines := strings.Split(text, "\n")
	for i, want := range []string{"ok first", "FAILED second", "not run third", "2 of 3 rows run"} {
		if !strings.HasSuffix(lines[i+1], want) {
			t.Errorf("line %d is %q, want %q", i+1, lines[i+1], want)
		}
	}
}

// TestRun is how an adapter's test runs its rows.
func TestRun(t *testing.T) {
	Run(t, []Row{{Name: "cut", Fault: "connections cut under load", Do: cutting(brokerURL(t))}}, 1)
}
