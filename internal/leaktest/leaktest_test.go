package leaktest

import (
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"testing"
	"time"
)

// leakVar makes TestLeaks leave a goroutine behind.
const leakVar = "LEAKTEST_LEAKS"

func TestMain(m *testing.M) { Main(m, "github.com/motifmq/motif/internal/leaktest.ignored") }

func leaked(forever chan struct{})  { <-forever }
func ignored(forever chan struct{}) { <-forever }

// TestMainFails: a program that leaks fails, with the stack of what it left.
func TestMainFails(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLeaks$")
	for _, leaks := range []bool{false, true} {
		cmd := *cmd
		if leaks {
			cmd.Env = append(os.Environ(), leakVar+"=1")
		}
		out, err := cmd.CombinedOutput()
		if (err != nil) != leaks || strings.Contains(string(out), "leaktest.leaked(") != leaks || strings.Contains(string(out), "leaktest.ignored(") {
			t.Errorf("leaks: %t, ended with %v:\n%s", leaks, err, out)
		}
	}
}

func TestLeaks(t *testing.T) {
	go ignored(nil)
	if os.Getenv(leakVar) != "" {
		go leaked(nil)
	}
}

func TestFind(t *testing.T) {
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	t.Run("beside one that waits for it", func(t *testing.T) {
		end := make(chan struct{})
		before := Current()
		go leaked(end)
		err := find(before, 0, nil)
		for until := time.Now().Add(patience); err != nil && !strings.Contains(err.Error(), "leaktest.leaked(") && time.Now().Before(until); {
			err = find(before, 0, nil) // it has not begun
		}
		if err == nil || !strings.Contains(err.Error(), "leaktest.leaked(") || !strings.Contains(err.Error(), "1 goroutines") {
			t.Errorf("got %v", err)
		}
		if err := find(Current(), 0, nil); err != nil {
			t.Errorf("what was there before: %v", err)
		}
		go func() {
			waits := func(s stack) bool { return s.has("github.com/motifmq/motif/internal/leaktest.Goroutines.Verify") }
			for !slices.ContainsFunc(others(), waits) {
				time.Sleep(time.Millisecond)
			}
			close(end)
		}()
		before.Verify(t)
	})
}
