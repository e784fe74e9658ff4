package rabbitmqtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// Install sees to it that RabbitMQ is on this machine. What is there stays as it
// is. If there is none, it installs the Debian package, which takes root; for
// others, and on other systems, its error says what to do. No broker is started; the one that the
// package would start is kept from it. What apt-get says goes to out.
//
// Calls of several programs at once wait for each other.
func Install(ctx context.Context, out io.Writer) error {
	_, err := findPrograms()
	if err == nil || !hasApt() || os.Geteuid() != 0 {
		return err
	}
	unlock, err := lock(ctx, "/var/cache/apt")
	if err != nil {
		return err
	}
	defer unlock() //nolint:errcheck // it ends with the program at the latest
	if _, err = findPrograms(); err == nil {
		return nil // somebody else has, while we waited
	}
	allow, err := denyServices()
	if err != nil {
		return err
	}
	if err = aptInstall(ctx, out); err != nil { // maybe for want of the lists, or for old ones
		if err = apt(ctx, out, "update"); err == nil {
			err = aptInstall(ctx, out)
		}
	}
	if err = errors.Join(err, allow()); err != nil {
		return fmt.Errorf("installing RabbitMQ: %w", err)
	}
	_, err = findPrograms()
	return err
}

// lock takes a lock that hangs on a folder, which leaves nothing behind.
func lock(ctx context.Context, folder string) (unlock func() error, err error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		return nil, errors.Join(fmt.Errorf("locking %s: %w", folder, err), f.Close())
	}
}

func aptInstall(ctx context.Context, out io.Writer) error {
	return apt(ctx, out, "install", "-y", "--no-install-recommends", "rabbitmq-server")
}

func apt(ctx context.Context, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-o", "DPkg::Lock::Timeout=300"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", cmd, err)
	}
	return nil
}

// policyFile is asked by Debian's packages before they start a service.
const policyFile = "/usr/sbin/policy-rc.d"

// denyServices keeps packages from starting services until allow is called. A
// policy that the machine has stays: in a container it usually says the same.
func denyServices() (allow func() error, err error) {
	f, err := os.OpenFile(policyFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if errors.Is(err, os.ErrExist) {
		return func() error { return nil }, nil
	}
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(f, "#!/bin/sh\nexit 101\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(policyFile))
	}
	return func() error { return os.Remove(policyFile) }, nil
}
