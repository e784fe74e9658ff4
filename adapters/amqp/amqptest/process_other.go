//go:build !unix

package amqptest

import (
	"os/exec"
	"syscall"
)

// There are no nodes on these systems, for want of a shell and of signals:
// tests skip, or use the broker of AMQP_URL.
const (
	sigStop = syscall.SIGKILL
	sigCont = syscall.SIGKILL
)

func detach(*exec.Cmd) {}

func awaitStop(int) error { return nil }
