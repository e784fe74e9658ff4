package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/deadletters"
	"github.com/motifmq/motif/patterns"
)

// Dish is what an order is for.
type order struct {
	Dish  string `json:"dish"`
	Price int    `json:"price"`
}

// site is a broker with orders that died, and its URL in the environment.
type site struct {
	driver adapters.Driver
	bus    *patterns.Bus
	orders *patterns.WorkQueue[order]
}

// newSite opens a broker in the process that lasts as long as the test.
func newSite(t testing.TB) *site {
	t.Helper()
	url := "memory:" + strings.NewReplacer("/", "-", ",", "", "=", "").Replace(t.Name())
	t.Setenv("MOTIF_URL", url)
	return siteAt(t, url)
}

func siteAt(t testing.TB, url string) *site {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	d, err := adapters.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	bus := patterns.New(d, patterns.WithLogger(slog.New(slog.DiscardHandler)))
	t.Cleanup(func() { _ = bus.Close(context.Background()) })
	return &site{d, bus, patterns.NewWorkQueue[order](bus, "orders")}
}

// die makes a dead letter.
func (s *site) die(t testing.TB, id string, o order, reason string) {
	t.Helper()
	if err := s.orders.Send(t.Context(), o, patterns.MessageID(id), patterns.Header("table", "7")); err != nil {
		t.Fatal(err)
	}
	m, err := s.orders.Get(t.Context())
	if err == nil {
		err = m.Reject(t.Context(), errors.New(reason))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *site) three(t testing.TB) {
	t.Helper()
	s.die(t, "a", order{"soup", 3}, "no spoon")
	s.die(t, "b", order{"ramen", 9}, "no bowl")
	s.die(t, "c", order{"soup", 4}, "no spoon")
}

// waiting returns the payloads that wait in a queue.
func (s *site) waiting(t testing.TB, queue string) (payloads []string) {
	t.Helper()
	found, err := s.driver.(adapters.Inspector).Browse(t.Context(), queue, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range found {
		payloads = append(payloads, d.Message.UUID+" "+string(d.Message.Payload))
	}
	return payloads
}

// step is a command, and what it does.
type step struct {
	args  string
	stdin string
	code  int
	want  []string // in what it writes
	never []string // not in it
}

func (s step) run(t *testing.T) {
	t.Helper()
	code, out, errs := motif(t, s.stdin, strings.Fields(s.args)...)
	if code != s.code {
		t.Errorf("motif %s: exit %d, want %d:\n%s%s", s.args, code, s.code, out, errs)
	}
	for _, text := range s.want {
		if !strings.Contains(out+errs, text) {
			t.Errorf("motif %s: no %q in:\n%s%s", s.args, text, out, errs)
		}
	}
	for _, text := range s.never {
		if strings.Contains(out+errs, text) {
			t.Errorf("motif %s: %q in:\n%s%s", s.args, text, out, errs)
		}
	}
}

func TestDeadLooks(t *testing.T) {
	s := newSite(t)
	s.three(t)
	for _, step := range []step{
		{args: "dead list orders.dead", want: []string{"ID", "REASON", "no bowl", "3 of 3 letters"}},
		{args: "dead list orders.dead -reason spoon", want: []string{"2 of 3"}, never: []string{"bowl"}},
		{args: "dead list orders.dead -json-path price=9", want: []string{"1 of 3", "no bowl"}},
		{args: "dead list orders.dead -json-path dish!=soup", want: []string{"1 of 3", "no bowl"}},
		{args: "dead list orders.dead -header table=7", want: []string{"3 of 3"}},
		{args: "dead list orders.dead -header table=8", want: []string{"0 of 3"}},
		{args: "dead list orders.dead -older 1h", want: []string{"0 of 3"}},
		{args: "dead list orders.dead -younger 1h -from orders", want: []string{"3 of 3"}},
		{args: "dead list orders.dead -limit 1", want: []string{"2 letters behind them"}},
		{args: "dead list orders.dead -json", want: []string{`"ref":"b"`, `"reason":"no bowl"`}, never: []string{"REASON"}},
		{args: "dead list orders.dead -reason (", code: exitUsage, want: []string{"-reason"}},
		{args: "dead list orders.dead -json-path a[", code: exitUsage, want: []string{"brackets"}},
		{args: "dead list orders", want: []string{"0 of 0 letters", "the dead letters of a queue called orders are in orders.dead"}},
		{args: "dead list orders.dead -header table=8", never: []string{"are in orders.dead"}},
		{args: "dead list missing", code: exitFailed, want: []string{"not found"}},
		{args: "dead list", code: exitUsage, want: []string{"needs more arguments"}},
		{args: "dead", code: exitUsage, want: []string{"list, show, explain"}},
		{args: "dead bury", code: exitUsage, want: []string{`no command "dead bury"`}},
		{args: "dead show orders.dead b", want: []string{"no bowl", "header table: 7", `{"dish":"ramen","price":9}`}, never: []string{"soup"}},
		{args: "dead show orders.dead b -json", want: []string{`"payload":"{\"dish\":\"ramen\",\"price\":9}"`}},
		{args: "dead show orders.dead x", code: exitFailed, want: []string{"letter x"}},
		{args: "dead explain orders.dead a", want: []string{`gave it up in queue "orders"`, "no spoon.", `A replay sends it to queue "orders"`}},
		{args: "dead replay orders.dead -dry-run", want: []string{"3 letters would be sent", "orders"}},
		{args: "dead drop orders.dead", code: exitUsage, want: []string{"-all"}},
		{args: "dead drop orders.dead b -dry-run", want: []string{"1 of 3"}},
		{args: "dead drop orders.dead -all -limit 1 -dry-run", want: []string{"1 of 3", "a "}, never: []string{"bowl"}},
		{args: "dead drop orders.dead x -dry-run", code: exitFailed, want: []string{"letter x"}},
		{args: "dead replay orders.dead x -dry-run", code: exitFailed, want: []string{"letter x"}},
		{args: "dead replay orders.dead -rate -1", code: exitUsage},
		{args: "queues", want: []string{"QUEUE", "orders.dead"}},
		{args: "queues orders", want: []string{"orders", "3"}},
		{args: "queues orders -json", want: []string{`"dead":3`}},
		{args: "queues missing", code: exitFailed, want: []string{"not found"}},
	} {
		step.run(t)
	}
	if got := s.waiting(t, "orders.dead"); len(got) != 3 || got[0] != `a {"dish":"soup","price":3}` {
		t.Errorf("looking has changed what waits: %q", got)
	}
}

func TestDeadReplayAndDrop(t *testing.T) {
	s := newSite(t)
	s.three(t)
	for _, step := range []step{
		{args: "dead drop orders.dead x y", code: exitFailed, want: []string{"0 letters deleted", "no letter x, y"}},
		{args: "dead replay orders.dead x", code: exitFailed, want: []string{"0 letters sent", "no letter x in queue"}},
		{args: "dead replay orders.dead x -json", code: exitFailed, want: []string{`"missing":["x"]`}},
		{args: "dead drop orders.dead b x", code: exitFailed, want: []string{"1 letters deleted, 2 left", "no letter x in"}},
		{args: "dead drop orders.dead b", code: exitFailed, want: []string{"0 letters deleted, 2 left"}},
		{args: "dead replay orders.dead -limit 1", want: []string{"1 letters sent"}},
		{args: "dead replay orders.dead -to nowhere", code: exitFailed, want: []string{"failed: letter c", "unroutable"}},
		{args: "dead replay orders.dead -to orders.dead", code: exitFailed, want: []string{"into itself"}},
		{args: "dead replay orders.dead c -json", want: []string{`"sent":1`, `"doubtful":[]`}},
		{args: "dead replay orders.dead", want: []string{"0 letters sent"}},
	} {
		step.run(t)
	}
	want := []string{`a {"dish":"soup","price":3}`, `c {"dish":"soup","price":4}`}
	if got := s.waiting(t, "orders"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("sent %q", got)
	}
	left, err := filepath.Glob(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "motif", "*"))
	if err != nil || len(left) > 1 { // that of the run that failed
		t.Errorf("journals are left: %q, %v", left, err)
	}
}

// TestDeadReplayAfterAKill: a run that is about other letters forgets nothing of what the killed
// one left, and one that is interrupted leaves nothing.
func TestDeadReplayAfterAKill(t *testing.T) {
	s := newSite(t)
	s.three(t)
	_, lines, _ := motif(t, "", "dead", "export", "orders.dead")
	path := filepath.Join(t.TempDir(), "journal")
	j, err := deadletters.OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	queue := deadletters.New(s.driver, "orders.dead")
	if report, err := queue.Replay(t.Context(), deadletters.ReplayOptions{Journal: j}); err != nil || report.Sent != 3 {
		t.Fatalf("%+v, %v", report, err)
	}
	if err := j.Close(false); err != nil {
		t.Fatal(err)
	}
	step{args: "dead import orders.dead", stdin: lines, want: []string{"3 letters imported"}}.run(t) // as if they had not been acknowledged
	for _, args := range []string{"x", "b", "-limit 1", "-reason bowl", ""} {
		code, out, errs := motif(t, "", strings.Fields("dead replay orders.dead -journal "+path+" "+args)...)
		if code != exitOK && args != "x" && args != "b" || !strings.Contains(errs, "did not end in order") || !strings.Contains(out, "0 letters sent") {
			t.Errorf("%q: exit %d, %s%s", args, code, out, errs)
		}
	}
	if got := s.waiting(t, "orders"); len(got) != 3 {
		t.Errorf("sent %q", got)
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	step{args: "dead import orders.dead", stdin: lines, want: []string{"3 letters imported"}}.run(t)
	ctx, cancel := context.WithCancel(t.Context())
	i := &invocation{args: []string{"orders.dead"}, url: os.Getenv("MOTIF_URL")}
	o := deadletters.ReplayOptions{Every: time.Hour, Progress: func(*deadletters.Letter, string) { cancel() }}
	if report, err := i.sendBack(ctx, o, path); !errors.Is(err, context.Canceled) || report.Sent != 1 {
		t.Errorf("%+v, %v", report, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a run that was interrupted left its journal: %v", err)
	}
}

func TestDeadEdit(t *testing.T) {
	s := newSite(t)
	s.three(t)
	t.Setenv("VISUAL", "")
	t.Setenv("EDITOR", "sed -i -e s/ramen/udon/ -e 's/\"7\"/\"8\"/'")
	step{args: "dead edit orders.dead b", stdin: "n\n", code: exitFailed, want: []string{`-   "dish": "ramen"`, `+   "dish": "udon"`, "nothing was sent"}}.run(t)
	if got := s.waiting(t, "orders.dead"); len(got) != 3 {
		t.Errorf("left %q", got)
	}
	step{args: "dead edit orders.dead b", stdin: "y\n", want: []string{"1 letters sent"}}.run(t)
	if got := s.waiting(t, "orders"); len(got) != 1 || got[0] != `b {"dish":"udon","price":9}` {
		t.Errorf("sent %q", got)
	}
	m, err := s.orders.Get(t.Context())
	if err != nil || m.Headers["table"] != "8" || m.Headers[patterns.HeaderReason] != "" {
		t.Errorf("%+v, %v", m, err)
	}
	for editor, want := range map[string]string{"false": "the editor", "sed -i 1d": "between headers and payload", "sed -i '1s/.*/nonsense/'": "line 1", "true": "Nothing was changed"} {
		if editor == "sed -i 1d" {
			editor = "sed -i /---/d"
		}
		t.Setenv("EDITOR", editor)
		step{args: "dead edit orders.dead a", code: exitFailed, want: []string{want}}.run(t)
	}
}

func TestDeadExportAndImport(t *testing.T) {
	s := newSite(t)
	s.three(t)
	odd := message.NewMessage("odd\xff", []byte("\x00\xff\x1b[31m"))
	odd.Metadata["h\xfe"] = "\xfd"
	odd.Metadata["plain"] = "<b>&"
	p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: "orders.dead"}}
	p.CorrelationID, p.AppID = "call", "till"
	if err := s.driver.Publish(t.Context(), p, odd); err != nil {
		t.Fatal(err)
	}
	before, err := s.driver.(adapters.Inspector).Browse(t.Context(), "orders.dead", 10)
	if err != nil {
		t.Fatal(err)
	}
	_, lines, _ := motif(t, "", "dead", "export", "orders.dead")
	step{args: "dead drop orders.dead -all", want: []string{"4 letters deleted"}}.run(t)
	step{args: "dead import orders.dead", stdin: lines, want: []string{"4 letters imported"}}.run(t)
	after, err := s.driver.(adapters.Inspector).Browse(t.Context(), "orders.dead", 10)
	if err != nil || len(after) != len(before) {
		t.Fatal(len(after), err)
	}
	for i := range before {
		if !before[i].Message.Equals(after[i].Message) || !before[i].Timestamp.Equal(after[i].Timestamp) || before[i].CorrelationID != after[i].CorrelationID ||
			before[i].AppID != after[i].AppID || before[i].ContentType != after[i].ContentType {
			t.Errorf("exported %+v, imported %+v", before[i], after[i])
		}
	}
	step{args: "dead import orders.dead", stdin: lines[:strings.Index(lines, "\n")+1] + "{nonsense", code: exitFailed, want: []string{"letter 2 was not imported"}}.run(t)
	step{args: "dead import nowhere", stdin: lines, code: exitFailed, want: []string{"letter 1 was not imported", "unroutable"}}.run(t)
}

// unconfirming is a broker that has what is published, and does not confirm it.
type unconfirming struct{ adapters.Driver }

func (d unconfirming) Publish(ctx context.Context, p adapters.Publication, m ...*message.Message) error {
	if err := d.Driver.Publish(ctx, p, m...); err != nil {
		return err
	}
	return adapters.ErrUnconfirmed
}

func init() {
	adapters.Register("unconfirming", func(ctx context.Context, u *url.URL) (adapters.Driver, error) {
		d, err := adapters.Open(ctx, "memory:"+u.Opaque)
		return unconfirming{d}, err
	})
}

// TestDeadImportUnconfirmed: of a letter that may be in the queue it does not say that it is not.
func TestDeadImportUnconfirmed(t *testing.T) {
	s := newSite(t)
	s.three(t)
	_, lines, _ := motif(t, "", "dead", "export", "orders.dead")
	broker := strings.TrimPrefix(os.Getenv("MOTIF_URL"), "memory:")
	step{
		args: "dead import orders.dead -url unconfirming:" + broker, stdin: lines, code: exitFailed,
		want: []string{"letter 1 may have been imported, and the 0 before it were"}, never: []string{"not imported"},
	}.run(t)
}

// TestHostileLetters: what a letter has in it does nothing to a terminal.
func TestHostileLetters(t *testing.T) {
	s := newSite(t)
	s.die(t, "\x1b]0;title\a", order{"\u202esoup\u2066", 1}, "no \x1b[31mspoon\x1b[0m\r\n\u202e<script>")
	large := message.NewMessage("large", make([]byte, 16<<20))
	if err := s.driver.Publish(t.Context(), adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: "orders.dead"}}, large); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"dead list orders.dead", "dead show orders.dead", "dead explain orders.dead", "dead replay orders.dead -dry-run", "dead replay orders.dead -to nowhere"} {
		_, out, errs := motif(t, "", strings.Fields(args)...)
		for _, r := range out + errs {
			if r != '\n' && (r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u202e' || r == '\u2066') {
				t.Errorf("motif %s writes %q", args, r)
				break
			}
		}
		if len(out+errs) > 1<<20 {
			t.Errorf("motif %s writes %d bytes", args, len(out+errs))
		}
	}
}

// TestNoCredentialIsShown: neither an error nor anything else repeats the URL.
func TestNoCredentialIsShown(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	for _, url := range []string{"amqp://user:hunter2@127.0.0.1:1/", "amqp://user:hunter2@example.com/", "nonsense://user:hunter2@h", "user:hunter2@h", "amqp://user:hunter2@h:port/%"} {
		for _, args := range []string{"ping -timeout 1s", "dead list q", "dead replay q", "queues q", "send q x", "web q", "nonsense"} {
			_, out, errs := motif(t, "", append(strings.Fields(args), "-url", url)...)
			if strings.Contains(out+errs, "hunter2") {
				t.Errorf("motif %s: %s%s", args, out, errs)
			}
		}
	}
}

func TestCompletion(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatalf("the completion is tried in bash: %v", err)
	}
	_, script, _ := motif(t, "", "completion", "bash")
	for line, want := range map[string]string{
		"motif de": "dead", "motif dead ex": "explain export", "motif dead list -rea": "-reason", "motif dead list orders -js": "-json -json-path",
	} {
		words := strings.Fields(line)
		program := script + fmt.Sprintf("\nCOMP_WORDS=(%s); COMP_CWORD=%d; _motif; echo ${COMPREPLY[*]}", line, len(words)-1)
		out, err := exec.CommandContext(t.Context(), bash, "-c", program).CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Errorf("%s: %q, want %q, %v", line, got, want, err)
		}
	}
	step{args: "completion zsh", want: []string{"bashcompinit"}}.run(t)
	step{args: "completion fish", code: exitUsage}.run(t)
}

func TestMessages(t *testing.T) {
	s := newSite(t)
	if err := s.orders.Declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	double := patterns.NewRPC[int, int](s.bus, "double")
	if _, err := double.Serve(t.Context(), func(_ context.Context, n int) (int, error) { return 2 * n, nil }); err != nil {
		t.Fatal(err)
	}
	for _, step := range []step{
		{args: "send orders {} -id x -header table=1", want: []string{"the id x"}},
		{args: "send orders -json", stdin: "[]", want: []string{`"id"`}},
		{args: "send nowhere {}", code: exitFailed, want: []string{"unroutable"}},
		{args: "send orders {} -header nonsense", code: exitUsage},
		{args: "send orders {} -kind nonsense", code: exitUsage},
		{args: "call double 21", want: []string{"42"}},
		{args: "call double", stdin: "4", want: []string{"8"}},
		{args: "call nobody 1", code: exitFailed},
		{args: "ping orders", want: []string{"memory", "there and back"}},
		{args: "ping missing", code: exitFailed, want: []string{"there and back", "not found"}},
		{args: "ping -json", want: []string{`"round_trip_ms"`}},
		{args: "tail orders -kind queue", code: exitUsage},
	} {
		step.run(t)
	}
	if got := s.waiting(t, "orders"); len(got) != 2 || got[0] != "x {}" {
		t.Errorf("sent %q", got)
	}
}

func TestTail(t *testing.T) {
	s := newSite(t)
	done := make(chan string)
	go func() {
		_, out, errs := motif(t, "", "tail", "logs", "-pattern", "kitchen.#", "-n", "2", "-json")
		done <- out + errs
	}()
	logs := patterns.NewTopic[string](s.bus, "logs")
	for n := 0; ; n++ { // until it has subscribed and seen two
		for _, key := range []string{"hall.door", "kitchen.oven"} {
			if err := logs.Publish(t.Context(), key, "hot"); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case out := <-done:
			var r struct{ Key, Payload string }
			if err := json.Unmarshal([]byte(strings.SplitN(out, "\n", 2)[0]), &r); err != nil || r.Key != "kitchen.oven" || r.Payload != `"hot"` || strings.Contains(out, "hall") {
				t.Errorf("%s, %v", out, err)
			}
			return
		default:
		}
	}
}
