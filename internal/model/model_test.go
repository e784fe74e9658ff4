package model

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/adapters/memory"
)

func TestMain(m *testing.M) { amqptest.Main(m) }

const workers = 16

// number reads a setting of make model from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%q is no number", name, text)
	}
	return n
}

// TestModel plays the cases in testdata, and random sequences, half of them on
// classic queues, half on quorum queues, and one of twenty with a restart.
func TestModel(t *testing.T) {
	sequences := number(t, "MOTIF_SEQUENCES", 50)
	seed := number(t, "MOTIF_SEED", uint64(time.Now().UnixNano())%1e9)
	f := newField(t, workers)
	t.Logf("%d sequences from seed %d on, RabbitMQ %s", sequences, seed, f.version)
	trials := cases(t, f.version)
	for n := range sequences {
		s := generate(t, seed+n, [...]string{"classic", "quorum"}[(seed+n)%2], n%20 >= 18, f.version)
		trials = append(trials, &trial{name: fmt.Sprint("seed ", seed+n), script: s, want: inMemory(t, s)})
	}
	var plain, restarting []*trial
	verbs, left := make(map[string]int), make(map[string]int)
	for _, tr := range trials {
		if tr.script.has("restart") {
			restarting = append(restarting, tr)
		} else {
			plain = append(plain, tr)
		}
		for _, step := range tr.want {
			verbs[step.op.verb]++
			if step.skipped != "" {
				left[step.op.verb]++
			}
		}
	}
	begun := time.Now()
	f.run(t.Context(), plain)
	t.Logf("%d sequences in %v", len(plain), time.Since(begun).Round(time.Second))
	begun = time.Now()
	f.runWithRestarts(t.Context(), restarting, patience)
	t.Logf("%d with a restart in %v", len(restarting), time.Since(begun).Round(time.Second))
	t.Logf("operations: %v; not determined and left out: %v", verbs, left)
	f.judge(t, trials)
}

// cases reads the sequences that once differed. All that is in them has to be
// determined.
func cases(t *testing.T, v memory.Version) []*trial {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("cases %v, %v", files, err)
	}
	var trials []*trial
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseScript(string(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		s.version = v
		tr := &trial{name: file, script: s, want: inMemory(t, s)}
		for _, step := range tr.want {
			if step.skipped != "" {
				t.Errorf("%s: %s", file, step)
			}
		}
		trials = append(trials, tr)
	}
	return trials
}

// judge reports the trials that failed, the first ones in short.
func (f *field) judge(t *testing.T, trials []*trial) {
	t.Helper()
	const most = 5 // that are worth the time
	failed := 0
	for _, tr := range trials {
		if !tr.bad() {
			continue
		}
		if failed++; failed > most {
			t.Errorf("%s on %s: differs too", tr.name, tr.script.on)
			continue
		}
		if tr.err != nil {
			t.Errorf("%s: %v\n\n%s\nThe clients say:\n%s", tr.name, tr.err, tr.script, tr.log)
			continue
		}
		t.Logf("%s differs:\n\n%s\n%s", tr.name, tr.script, tr.diff) // to make it shorter can take long
		last := *tr
		again := func(s script) bool {
			next := trial{script: s, want: inMemory(t, s)}
			f.runWithRestarts(t.Context(), []*trial{&next}, impatience)
			if next.diff != nil {
				last = next
			}
			return next.diff != nil
		}
		if !again(tr.script) {
			t.Errorf("%s differed once, and not again:\n\n%s\n%s\n\nThe clients say:\n%s", tr.name, tr.script, tr.diff, tr.log)
			continue
		}
		short := shrink(tr.script, again)
		t.Errorf("%s. To keep it, put this into testdata:\n\n%s\n%s\n", tr.name, short, last.diff)
	}
	if failed > 0 {
		t.Errorf("%d of %d sequences differ", failed, len(trials))
	}
}
