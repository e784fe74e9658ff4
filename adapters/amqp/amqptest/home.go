package amqptest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// A home is the folder of a node, or of several that may see each other, with
// what they have in common: the cookie, the name server (epmd), the reaper.
type home struct {
	programs
	folder   string
	plugins  string // the folder's own folder of plugins, or ""
	epmdPort int
	epmd     *process
	reaper   *reaper
	close    func() error // ends the processes and removes the folder, once
}

func newHome(ctx context.Context, version string) (h *home, err error) {
	h = &home{}
	if h.programs, err = findPrograms(version); err != nil {
		return nil, err
	}
	if h.folder, err = os.MkdirTemp("", "motif-rabbitmq-"); err != nil {
		return nil, err
	}
	if h.reaper, err = startReaper(h.folder); err != nil {
		_ = os.RemoveAll(h.folder)
		return nil, err
	}
	h.close = sync.OnceValue(h.reaper.reap)
	if err = os.WriteFile(filepath.Join(h.folder, ".erlang.cookie"), []byte(rand.Text()), 0o400); err == nil {
		err = errors.Join(h.linkPlugins(), h.startEpmd(ctx))
	}
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

var errEpmd = errors.New("starting the name server epmd")

// startEpmd starts a name server for this home alone. Left to itself, Erlang
// starts one for the whole machine, which stays when all else is gone.
func (h *home) startEpmd(ctx context.Context) (err error) {
	if h.epmdPort, err = freePort(); err != nil {
		return err
	}
	h.epmd, err = startProcess(h.command(filepath.Join(h.folder, "epmd.pid"),
		h.programs.epmd, "-address", "127.0.0.1", "-port", strconv.Itoa(h.epmdPort)))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(h.epmdPort))
	err = poll(ctx, h.epmd, func() bool {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", addr)
		return err == nil && conn.Close() == nil
	})
	if err != nil {
		return fmt.Errorf("%w on %s: %w", errEpmd, addr, err)
	}
	return nil
}

// poll waits until done, for as long as p runs and ctx lasts.
func poll(ctx context.Context, p *process, done func() bool) error {
	const shortest, longest = 5 * time.Millisecond, 50 * time.Millisecond
	wait := shortest
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.exited:
			return fmt.Errorf("it ended: %s", p.cmd.ProcessState)
		case <-time.After(wait):
		}
		wait = min(2*wait, longest)
	}
	return nil
}
