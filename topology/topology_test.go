package topology

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
)

// declareAll declares one of each.
func declareAll(ctx context.Context, b *patterns.Bus) error {
	return errors.Join(
		patterns.NewWorkQueue[int](b, "jobs", patterns.MaxLength(10), patterns.DropOldest(), patterns.MessageTTL(90*time.Minute), patterns.DeadLetter("lost")).Declare(ctx),
		patterns.NewWorkQueue[int](b, "urgent", patterns.MaxPriority(5), patterns.NoDeadLetter()).Declare(ctx),
		patterns.NewPubSub[int](b, "news").Declare(ctx),
		patterns.NewRouted[int](b, "logs").Declare(ctx, []string{"error", "warn"}, patterns.Group("files")),
		patterns.NewRouted[int](b, "logs").Declare(ctx, []string{"fatal"}, patterns.Group("files")),
		patterns.NewTopic[int](b, "events").Declare(ctx, []string{"eu.*", "#.#.late"}, patterns.Group("audit")),
		patterns.NewTopic[int](b, "lonely").Declare(ctx, []string{"#"}),
	)
}

func all(t *testing.T) Topology {
	t.Helper()
	top, err := Of(t.Context(), declareAll)
	if err != nil {
		t.Fatal(err)
	}
	return top
}

func TestJSONSaysAll(t *testing.T) {
	top := all(t)
	b, err := json.Marshal(top)
	if err != nil {
		t.Fatal(err)
	}
	read, err := Read(strings.NewReader(string(b)))
	if err != nil || !reflect.DeepEqual(read, top) {
		t.Errorf("%s is read as %+v, not %+v: %v", b, read, top, err)
	}
	again, err := json.Marshal(read)
	if err != nil || string(again) != string(b) {
		t.Errorf("it is written as %s, and then as %s: %v", b, again, err)
	}
}

func TestReadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"no JSON":               `hello`,
		"no version":            `{"queues":[]}`,
		"a version to come":     `{"version":2,"queues":[]}`,
		"an unknown property":   `{"version":1,"queues":[{"name":"a","max_lenght":3}]}`,
		"no name":               `{"version":1,"queues":[{}]}`,
		"a negative length":     `{"version":1,"queues":[{"name":"a","max_length":-1}]}`,
		"no duration":           `{"version":1,"queues":[{"name":"a","message_ttl":"soon"}]}`,
		"an unknown kind":       `{"version":1,"exchanges":[{"name":"a","kind":"headers"}]}`,
		"a missing exchange":    `{"version":1,"queues":[{"name":"a:b","exchange":"a","group":"b"}]}`,
		"the name of no group":  `{"version":1,"exchanges":[{"name":"a","kind":"fanout"}],"queues":[{"name":"x","exchange":"a","group":"b"}]}`,
		"the broker's own name": `{"version":1,"queues":[{"name":"amq.a"}]}`,
	} {
		if top, err := Read(strings.NewReader(text)); !errors.Is(err, adapters.ErrInvalid) {
			t.Errorf("%s: %+v, %v", name, top, err)
		}
	}
}

func TestMergeRefusesWhatCannotRunTogether(t *testing.T) {
	a := Topology{Queues: []Queue{{Name: "q", Spec: adapters.QueueSpec{MaxLength: 1}}}}
	for name, b := range map[string]Topology{
		"another length":         {Queues: []Queue{{Name: "q"}}},
		"as a dead-letter queue": {Queues: []Queue{{Name: "p", Spec: adapters.QueueSpec{DeadLetter: "q"}}}},
	} {
		if _, err := Merge(a, b); !errors.Is(err, adapters.ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	passive := Topology{Queues: []Queue{{Name: "q", Passive: true}}}
	for _, both := range [][]Topology{{a, passive}, {passive, a}} {
		if m, err := Merge(both...); err != nil || !reflect.DeepEqual(m, a) {
			t.Errorf("with one who uses it as it stands: %+v, %v", m, err)
		}
	}
}

func findings(r Report) (lines []string) {
	for _, f := range r.Findings {
		lines = append(lines, strings.Join(strings.Fields(f.String()), " "))
	}
	return lines
}

func TestApplyMakesItSo(t *testing.T) {
	top := all(t)
	d := memory.New().Connect()
	defer d.Close(t.Context())
	before, err := top.Check(t.Context(), d)
	if err != nil || len(before.Findings) != len(top.Exchanges)+len(top.Queues)+5 {
		t.Errorf("of nothing at all are missing %q: %v", findings(before), err)
	}
	for range 2 {
		if err := top.Apply(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if after, err := top.Check(t.Context(), d, top); err != nil || !after.OK() || len(after.Unchecked) > 0 {
			t.Errorf("after it was applied: %q, %v", findings(after), err)
		}
	}
	bus := patterns.New(d) // an application agrees
	if err := declareAll(t.Context(), bus); err != nil {
		t.Error(err)
	}
}

func TestUndeclaredAreOursOnly(t *testing.T) {
	d := memory.New().Connect()
	bus := patterns.New(d)
	defer bus.Close(t.Context())
	ctx := t.Context()
	if err := errors.Join(
		declareAll(ctx, bus),
		patterns.NewWorkQueue[int](bus, "somebody's").Declare(ctx),
		patterns.NewPubSub[int](bus, "somebody's-news").Declare(ctx, patterns.Group("reader")),
		patterns.NewPubSub[int](bus, "news:local").Declare(ctx, patterns.Group("reader")), // "news" is ours
		patterns.NewWorkQueue[int](bus, "news:").Declare(ctx),
		patterns.NewRouted[int](bus, "logs").Declare(ctx, []string{"debug"}, patterns.Group("files")),
		patterns.NewTopic[int](bus, "events").Declare(ctx, []string{"us.*"}, patterns.Group("gone")),
		patterns.NewWorkQueue[int](bus, "was-ours").Send(ctx, 1),
	); err != nil {
		t.Fatal(err)
	}
	top := all(t)
	earlier := Topology{Exchanges: []Exchange{{"somebody's-news", "fanout"}, {"never-there", "topic"}}, Queues: []Queue{{Name: "was-ours"}, {Name: "never-there"}}}
	report, err := top.Check(ctx, d, earlier)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{
		`undeclared binding of queue "logs:files" to exchange "logs" with key "debug"`: true,
		`undeclared queue "events:gone"`:                                               true,
		`undeclared queue "events:gone.dead"`:                                          true,
		`undeclared queue "was-ours"`:                                                  true,
		`undeclared queue "was-ours.dead"`:                                             true,
		`undeclared exchange "somebody's-news"`:                                        true,
		`undeclared queue "somebody's-news:reader"`:                                    true,
		`undeclared queue "somebody's-news:reader.dead"`:                               true,
	}
	for _, line := range findings(report) {
		if !want[line] {
			t.Errorf("it says: %s", line)
		}
		delete(want, line)
	}
	for line := range want {
		t.Errorf("it does not say: %s", line)
	}
	if err := top.Prune(ctx, d, report); !errors.Is(err, adapters.ErrPrecondition) || !errors.Is(err, adapters.ErrUnsupported) {
		t.Errorf("pruning a queue with a message, and an exchange: %v", err)
	}
	if report, err = top.Check(ctx, d, earlier); err != nil || len(report.Findings) != 2 {
		t.Errorf("what is left: %q, %v", findings(report), err)
	}
}

// TestApplyOnRabbitMQ: without the management API it says what it did not look at.
func TestApplyOnRabbitMQ(t *testing.T) {
	top := all(t)
	d := open(t, amqptest.URL(t)).Driver()
	for _, want := range []int{len(top.Exchanges) + len(top.Queues), 0} {
		report, err := top.Check(t.Context(), d)
		if err != nil || len(report.Findings) != want || len(report.Unchecked) != 2 || !report.Partial {
			t.Errorf("it differs in %q, and %q: %v", findings(report), report.Unchecked, err)
		}
		if err := top.Apply(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	top.Queues[0].Spec.MaxLength++
	if report, err := top.Check(t.Context(), d); err != nil || len(report.Findings) != 1 || report.Findings[0].State != Differs {
		t.Errorf("with another limit it differs in %q: %v", findings(report), err)
	}
	if err := top.Apply(t.Context(), d); !errors.Is(err, adapters.ErrMismatch) {
		t.Errorf("applying another limit: %v", err)
	}
}
