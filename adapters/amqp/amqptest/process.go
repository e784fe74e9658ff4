package amqptest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// untilKilled is the context of processes: they end when they are told to, not
// with the call that started them.
var untilKilled = context.Background()

var errNotRunning = errors.New("it is not running")

// A process is one of ours, from its start to its end.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once it is gone, and is no zombie either
}

// startProcess starts cmd in a process group of its own, out of reach of the
// terminal's Ctrl-C: who started it decides in which order things end.
func startProcess(cmd *exec.Cmd) (*process, error) {
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd, make(chan struct{})}
	go p.wait()
	return p, nil
}

func (p *process) wait() {
	_ = p.cmd.Wait()
	close(p.exited)
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *process) signal(s syscall.Signal) error {
	if !p.running() {
		return errNotRunning
	}
	return p.cmd.Process.Signal(s)
}

// withPidFile wraps a command so that it writes its pid before anything else.
// Written by us after its start, it would be missing if we died in between.
func withPidFile(pidFile string, command ...string) *exec.Cmd {
	sh := []string{"-c", `echo $$ >"$0" && exec "$@"`, pidFile}
	return exec.CommandContext(untilKilled, "/bin/sh", append(sh, command...)...)
}

// A reaper is a process that waits until we close it, or are gone. It then
// kills every process whose pid is in a .pid file of the folder, and removes
// the folder. As it is the only way how things are cleaned up, it is known to
// work when it is needed most.
type reaper struct {
	*process
	lifeline io.Closer
}

const reaping = `
	cat >/dev/null
	for pid in $(cat "$0"/*.pid 2>/dev/null); do
		kill -9 "$pid" 2>/dev/null
	done
	for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		rm -rf "$0" 2>/dev/null && exit 0 # it fails while one of them still writes
		sleep 0.1
	done
	rm -rf "$0"`

func startReaper(folder string) (*reaper, error) {
	cmd := exec.CommandContext(untilKilled, "/bin/sh", "-c", reaping, folder)
	cmd.Dir = "/"
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close() //nolint:errcheck // the child has its own
	cmd.Stdin = read
	p, err := startProcess(cmd)
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	return &reaper{p, write}, nil
}

// reap returns when all is gone.
func (r *reaper) reap() error {
	err := r.lifeline.Close()
	<-r.exited
	if state := r.cmd.ProcessState; !state.Success() {
		err = errors.Join(err, fmt.Errorf("cleaning up: %s", state))
	}
	return err
}
