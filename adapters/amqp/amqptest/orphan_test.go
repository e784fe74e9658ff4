//go:build unix

package amqptest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// deathVar says how a program that TestNothingIsLeftBehind starts is to die.
const deathVar = "MOTIF_TEST_DEATH"

// Such a program runs no test: it uses nothing that ends with one, so that only
// its death is left to clean up.
func init() {
	if how := os.Getenv(deathVar); how != "" {
		die(how)
	}
}

func die(how string) {
	ctx := context.Background()
	switch how {
	case "kill -9":
		n, err := Start(ctx, Options{})
		if err != nil {
			panic(err)
		}
		if err := n.Freeze(); err != nil {
			panic(err)
		}
		fmt.Printf("left: %d %d %s\n", n.Pid(), n.home.epmd.cmd.Process.Pid, n.home.folder)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "panic": // the node would make no difference, but takes its time
		h, err := newHome(ctx, "")
		if err != nil {
			panic(err)
		}
		fmt.Printf("left: %d %d %s\n", h.epmd.cmd.Process.Pid, h.reaper.cmd.Process.Pid, h.folder)
		go panic("as announced")
		select {}
	}
	panic("no such death: " + how)
}

func TestNothingIsLeftBehind(t *testing.T) {
	if _, err := findPrograms(""); err != nil {
		orSkip(t, err)
	}
	for _, how := range []string{"panic", "kill -9"} {
		t.Run(how, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), deathVar+"="+how)
			output, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("it did not die:\n%s", output)
			}
			left := leftBy(t, output)
			for _, pid := range left.pids {
				eventually(t, "the process is gone", func() bool { return !alive(t, pid) })
			}
			eventually(t, "the folder is gone", func() bool {
				_, err := os.Stat(left.folder)
				return errors.Is(err, os.ErrNotExist)
			})
		})
	}
}

type leftovers struct {
	pids   []int
	folder string
}

// leftBy finds in a dead program's output what it did not clean up.
func leftBy(t *testing.T, output []byte) leftovers {
	t.Helper()
	for lines := bufio.NewScanner(bytes.NewReader(output)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) != 4 || fields[0] != "left:" {
			continue
		}
		var l leftovers
		for _, field := range fields[1:3] {
			pid, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			l.pids = append(l.pids, pid)
		}
		l.folder = fields[3]
		return l
	}
	t.Fatalf("the program did not come as far as to leave something:\n%s", output)
	return leftovers{}
}

// alive reports whether a process runs. A zombie does not, though it still
// answers to signal 0: it is another's to bury.
func alive(t *testing.T, pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	state, err := exec.CommandContext(t.Context(), "ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(state)), "Z")
}
