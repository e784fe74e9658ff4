package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/deadletters"
)

// childVar makes this test program a process that replays, to be killed.
const childVar = "MOTIF_DEADLETTERS_CHILD"

type childTask struct{ URL, Queue, Journal string }

func TestMain(m *testing.M) {
	if task := os.Getenv(childVar); task != "" {
		if err := beChild(task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	amqptest.Main(m)
}

// beChild replays, and writes a line for each letter.
func beChild(text string) error {
	var task childTask
	if err := json.Unmarshal([]byte(text), &task); err != nil {
		return err
	}
	ctx := context.Background()
	d, err := adapters.Open(ctx, task.URL)
	if err != nil {
		return err
	}
	journal, err := deadletters.OpenJournal(task.Journal)
	if err != nil {
		return err
	}
	_, err = deadletters.New(d, task.Queue).Replay(ctx, deadletters.ReplayOptions{
		Journal: journal, Progress: func(l *deadletters.Letter, _ string) { fmt.Println(l.Ref()) },
	})
	return err
}

// TestKilledReplay: a process that replays is killed with -9, several times. The next run sends
// what is left, and whatever is at its destination twice is in its report.
func TestKilledReplay(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	vhost := amqptest.Shared(t)
	d, n := open(t, vhost.URL), count(t)
	ids := fill(t, d, "orders", n)
	journal := filepath.Join(t.TempDir(), "journal")
	task, err := json.Marshal(childTask{vhost.URL, "orders.dead", journal})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Env, cmd.Stderr = append(os.Environ(), childVar+"="+string(task)), os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for sent := 0; sent < n/5 && lines.Scan(); sent++ {
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	j, err := deadletters.OpenJournal(journal)
	if err != nil {
		t.Fatal(err)
	}
	confirmed, doubtful := j.Left()
	if confirmed < 3*n/5 {
		t.Errorf("the journal knows of %d, want %d at least", confirmed, 3*n/5)
	}
	report, err := deadletters.New(d, "orders.dead").Replay(t.Context(), deadletters.ReplayOptions{Journal: j})
	if err != nil || len(report.Failed) > 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	// What the last process had in hand comes back once the broker knows that it is gone.
	for deadline := time.Now().Add(still); report.Sent+confirmed < n && time.Now().Before(deadline); {
		more, err := deadletters.New(d, "orders.dead").Replay(t.Context(), deadletters.ReplayOptions{Journal: j})
		if err != nil {
			t.Fatal(err)
		}
		if more.Sent > 0 {
			deadline = time.Now().Add(still)
		}
		report.Sent, report.Doubtful = report.Sent+more.Sent, append(report.Doubtful, more.Doubtful...)
	}
	if err := j.Close(true); err != nil {
		t.Error(err)
	}
	found, err := d.(adapters.Inspector).Browse(t.Context(), "orders", adapters.MaxBrowse)
	if err != nil {
		t.Fatal(err)
	}
	copies := map[string]int{}
	for _, l := range found {
		copies[l.Message.UUID]++
	}
	doubles := 0
	for _, id := range ids {
		switch n := copies[id]; {
		case n == 0:
			t.Errorf("%s is lost", id)
		case n > 1:
			doubles++
			if !slices.ContainsFunc(report.Doubtful, func(d deadletters.Doubt) bool { return d.Ref == id }) {
				t.Errorf("%s is there %d times, which is not in the report", id, n)
			}
		}
	}
	t.Logf("killed 3 times: %d confirmed and %d doubtful in the journal; recognized %d, listed %d, double %d", confirmed, doubtful, report.Recognized, len(report.Doubtful), doubles)
}
