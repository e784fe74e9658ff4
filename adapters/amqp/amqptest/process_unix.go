//go:build unix

package amqptest

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
)

const (
	sigStop = syscall.SIGSTOP
	sigCont = syscall.SIGCONT
)

func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// awaitStop waits until a child that got sigStop has stopped, all its threads.
func awaitStop(pid int) error {
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("waiting for process %d to stop: %w", pid, err)
		case !status.Stopped():
			return errNotRunning
		}
		return nil
	}
}
