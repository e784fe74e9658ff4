package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os/exec"
	"reflect"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

// A program with Celery: see testdata/tasks.py.
func tasks(t *testing.T, url, queue, verb string) *exec.Cmd {
	t.Helper()
	celery.need(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, python, "testdata/tasks.py", url, queue, verb)
	cmd.Stderr = t.Output()
	return cmd
}

// TestCeleryRunsWhatFailedHere: tasks that fail in a handler here, also after they waited to be
// tried again, and are sent back from the dead letters, are run by a worker of Celery as if nothing
// had happened to them: it dies of a task whose headers are not what it sent.
func TestCeleryRunsWhatFailedHere(t *testing.T) {
	url := amqptest.URL(t)
	bus := patterns.New(connect(t, url, ""))
	kitchen := patterns.NewWorkQueue[patterns.Raw](bus, unique(t))
	if err := kitchen.Declare(soon(t)); err != nil {
		t.Fatal(err)
	}
	if err := tasks(t, url, kitchen.Name(), "send").Run(); err != nil {
		t.Fatalf("sending with Celery: %v", err)
	}

	// They fail twice.
	const count = 2
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sub, err := kitchen.Work(ctx, func(context.Context, patterns.Raw) error { return errors.New("no gas") },
		patterns.Retry(patterns.RetryPolicy{Attempts: 2, Min: 1}))
	if err != nil {
		t.Fatal(err)
	}
	var letters []*patterns.Message[patterns.Raw]
	for range count {
		letter, err := kitchen.Dead().Get(soon(t))
		if err != nil {
			t.Fatal(err)
		}
		letters = append(letters, letter)
	}
	cancel()
	if err := sub.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, letter := range letters {
		if letter.Type != "" || letter.Headers["task"] != "cook" || letter.Headers["retries"] != "0" || letter.Headers[patterns.HeaderAttempts] != "2" {
			t.Errorf("a dead letter is %+v", letter.Delivery)
		}
		if err := letter.Requeue(soon(t)); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := kitchen.Dead().Redrive(soon(t)); n != count || err != nil {
		t.Fatalf("%d dead letters were sent back: %v", n, err)
	}

	worker := tasks(t, url, kitchen.Name(), "work")
	out, err := worker.StdoutPipe()
	if err == nil {
		err = worker.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]map[string]any{}
	for lines := bufio.NewScanner(out); len(got) < count && lines.Scan(); {
		var run map[string]any
		if json.Unmarshal(lines.Bytes(), &run) == nil { // and not what else a worker says
			got[run["id"].(string)] = run
		}
	}
	// Killed, as it has said all: one in many that are asked to end does not. One that died by
	// itself has said too little.
	if err := worker.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = worker.Wait() // it was killed
	for id, run := range got {
		if id == "full" && run["expires"] == nil {
			t.Errorf("task %s does not expire any more", id)
		}
		delete(run, "expires")
	}
	want := map[string]map[string]any{
		"plain": {"dish": "pad thai", "times": 2.0, "timelimit": []any{nil, nil}, "priority": 0.0},
		"full":  {"dish": "pho", "times": 3.0, "timelimit": []any{60.0, nil}, "priority": 3.0},
	}
	for id, run := range want {
		maps.Copy(run, map[string]any{"id": id, "retries": 0.0, "group": nil, "root": id, "encoding": nil})
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Celery ran\n%v, want\n%v", got, want)
	}
}
