package jetstream

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/motifmq/motif/adapters"
)

// maxPayload is the largest message of a server in this process, which the makers of NATS say is
// the largest that is wise.
const maxPayload = 8 << 20

// local is a server in this process, shared by the drivers of its folder.
type local struct {
	*server.Server
	lock   *os.File
	users  int
	config config
}

var (
	localsMu sync.Mutex
	locals   = map[string]*local{} // by folder
)

// acquire returns the server in a folder, started if this process has none there.
func acquire(ctx context.Context, c config) (*local, error) {
	localsMu.Lock()
	defer localsMu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("jetstream: open: %w", err)
	}
	l := locals[c.folder]
	switch {
	case l == nil:
		var err error
		if l, err = start(c); err != nil {
			return nil, err
		}
		locals[c.folder] = l
	case l.config.sync != c.sync || l.config.listen != c.listen:
		return nil, fmt.Errorf("jetstream: open: the server in folder %s runs with other parameters: %w", c.folder, adapters.ErrMismatch)
	}
	l.users++
	return l, nil
}

func (l *local) release() {
	localsMu.Lock()
	defer localsMu.Unlock()
	if l.users--; l.users > 0 {
		return
	}
	delete(locals, l.config.folder)
	l.stop()
}

func (l *local) stop() {
	l.Shutdown()
	l.WaitForShutdown()
	_ = l.lock.Close() // which unlocks it
}

func start(c config) (*local, error) {
	if err := os.MkdirAll(c.folder, 0o700); err != nil {
		return nil, fmt.Errorf("jetstream: open: %w: %w", adapters.ErrUnavailable, err)
	}
	lock, err := lockFile(filepath.Join(c.folder, "motif.lock"))
	if err != nil {
		return nil, fmt.Errorf("jetstream: open: %w: folder %s is in use: %w", adapters.ErrUnavailable, c.folder, err)
	}
	o := &server.Options{
		ServerName: "motif", StoreDir: c.folder, JetStream: true, SyncAlways: c.sync,
		DontListen: c.listen == "", MaxPayload: maxPayload, NoSigs: true, NoLog: true,
	}
	if c.listen != "" {
		host, port, err := net.SplitHostPort(c.listen)
		if err == nil {
			o.Host = host
			o.Port, err = strconv.Atoi(port)
		}
		if err != nil {
			_ = lock.Close()
			return nil, invalidURL("has a listen that is not host:port")
		}
	}
	s, err := server.NewServer(o)
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("jetstream: open: %w: %w", adapters.ErrUnavailable, err)
	}
	l := &local{Server: s, lock: lock, config: c}
	s.Start()
	if !s.ReadyForConnections(time.Minute) || !s.JetStreamEnabled() {
		l.stop()
		return nil, fmt.Errorf("jetstream: open: %w: the server in folder %s does not start", adapters.ErrUnavailable, c.folder)
	}
	return l, nil
}
