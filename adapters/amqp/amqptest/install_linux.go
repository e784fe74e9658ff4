package amqptest

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Install sees to it that versions of RabbitMQ are on this machine: those given,
// else the one that MOTIF_RABBITMQ says, else all [Versions]. What is there stays as it is.
// What is missing comes from the suite of Debian that has it, into a root folder
// of its own, which takes root and a system with apt-get; elsewhere the error
// says what to do. No service is started. What the programs say that do it goes
// to out.
//
// Calls of several programs at once wait for each other.
func Install(ctx context.Context, out io.Writer, versions ...string) error {
	versions = versionsOr(versions)
	missing, err := lacking(versions)
	if len(missing) == 0 || !hasApt() || os.Geteuid() != 0 {
		return err
	}
	if err = os.MkdirAll(cacheFolder, 0o755); err != nil { //nolint:gosec // for everybody
		return err
	}
	locked, err := lock(ctx, cacheFolder)
	if err != nil {
		return err
	}
	defer locked.Close() //nolint:errcheck // it ends with the program at the latest

	if missing, _ = lacking(versions); len(missing) > 0 { // nobody else has, while we waited
		if err = needDebootstrap(ctx, out); err != nil {
			return err
		}
	}
	done := make(chan error)
	for _, r := range missing {
		go func() { done <- r.install(ctx, out, locked) }()
	}
	for range missing {
		err = errors.Join(err, <-done)
	}
	if err == nil {
		_, err = lacking(versions)
	}
	return err
}

// lacking returns which of some versions can be installed, and are not, and an
// error for each that is not installed.
func lacking(versions []string) (missing []release, err error) {
	for _, version := range versions {
		_, failed := findPrograms(version)
		err = errors.Join(err, failed)
		i := slices.IndexFunc(releases, func(r release) bool { return r.version == version })
		if failed != nil && i >= 0 {
			missing = append(missing, releases[i])
		}
	}
	return missing, err
}

//go:embed install.sh
var installScript string

// install makes the release's root folder, all of it or nothing.
func (r release) install(ctx context.Context, out io.Writer, locked *os.File) error {
	unfinished := filepath.Join(cacheFolder, "unfinished-"+r.version)
	if err := os.RemoveAll(unfinished); err != nil { // of one that was interrupted
		return err
	}
	cmd := command(ctx, out, "unshare", "-m", "/bin/sh", "-c", installScript, "install", r.suite, unfinished, debianMirror(ctx))
	cmd.ExtraFiles = []*os.File{locked} // if we are killed, it is locked as long as something of this still runs
	err := cmd.Run()
	if err == nil {
		err = r.check(unfinished)
	}
	if err == nil {
		err = os.Rename(unfinished, rootOf(r.version))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("installing RabbitMQ %s: %w", r.version, err), os.RemoveAll(unfinished))
	}
	return nil
}

// check sees that the suite has what it had.
func (r release) check(root string) error {
	server := find(root, "rabbitmq-server", serverFolder)
	if version := versionIn(root + server); !strings.HasPrefix(version, r.version+".") {
		return fmt.Errorf("the rabbitmq-server of Debian's %s is now %q, not %s", r.suite, version, r.version)
	}
	return nil
}

func needDebootstrap(ctx context.Context, out io.Writer) error {
	if _, err := exec.LookPath("debootstrap"); err == nil {
		return nil
	}
	install := strings.Fields("apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends debootstrap debian-archive-keyring")
	err := command(ctx, out, install...).Run()
	if err != nil { // maybe for want of the lists, or for old ones
		err = command(ctx, out, "apt-get", "update").Run()
		if err == nil {
			err = command(ctx, out, install...).Run()
		}
	}
	if err != nil {
		return fmt.Errorf("installing debootstrap: %w", err)
	}
	return nil
}

// debianMirror is the one that the machine has its own packages from, if it
// runs Debian, else Debian's.
func debianMirror(ctx context.Context) string {
	const ask = `. /etc/os-release && [ "$ID" = debian ] &&
		apt-get indextargets --format '$(REPO_URI)' "Release: $VERSION_CODENAME" 'Component: main' 'Created-By: Packages' | grep -m 1 ^http`
	own, err := exec.CommandContext(ctx, "/bin/sh", "-c", ask).Output()
	if err != nil {
		return debian
	}
	return cmp.Or(string(bytes.TrimSpace(own)), debian)
}

const debian = "http://deb.debian.org/debian"

// command is one whose whole process group ends with ctx.
func command(ctx context.Context, out io.Writer, words ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	cmd.Stdout, cmd.Stderr = out, out
	detach(cmd)
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// lock takes a lock that hangs on a folder, which leaves nothing behind. Closing the
// file gives it back, unless another process has it open, too.
func lock(ctx context.Context, folder string) (*os.File, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
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
