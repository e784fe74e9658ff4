//go:build linux || darwin || freebsd || netbsd || openbsd

package main

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// queue is a directory with a file for each message, the oldest first in the
// order of names. What can change is in the name, so that it changes by a
// rename, and of two who try only one can:
//
//	TIME-CLIENT.tmp.CLIENT   is being written
//	TIME-CLIENT.new          waits
//	TIME-CLIENT.held.CLIENT  is in hand, while that client lives
//	TIME-CLIENT.again        waits, and was delivered before
//	TIME-CLIENT.bad          cannot be read, and is left for people to look at
type queue string

// content is what is in a file. A gob keeps strings byte by byte, as JSON does not.
type content struct {
	UUID     string
	Metadata message.Metadata
	Payload  []byte
	Key      string
	adapters.Properties
}

// queue escapes a name, so that no two are the same file, whatever the file system.
func (d *driver) queue(name string) (queue, error) {
	var b strings.Builder
	for _, c := range []byte(name) {
		if strings.IndexByte("abcdefghijklmnopqrstuvwxyz0123456789-_", c) >= 0 || c == '.' && b.Len() > 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	if b.Len() > adapters.MaxNameBytes {
		return "", fmt.Errorf("%w: queue name too long for a file's", adapters.ErrInvalid)
	}
	return queue(filepath.Join(d.dir, "queues", b.String())), nil
}

func (q queue) path(name ...string) string { return filepath.Join(string(q), strings.Join(name, "")) }

var latest atomic.Int64 // time in a file's name

// put stores a message, or returns ErrNotFound if there is no such queue.
func (q queue) put(client string, c content) error {
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(c); err != nil {
		return fmt.Errorf("%w: %w", adapters.ErrInvalid, err)
	}
	was := latest.Load()
	now := max(time.Now().UnixNano(), was+1)
	for !latest.CompareAndSwap(was, now) {
		was = latest.Load()
		now = max(now, was+1)
	}
	base := fmt.Sprintf("%019d-%s", now, client)
	tmp := q.path(base, ".tmp.", client)
	err := os.WriteFile(tmp, b.Bytes(), 0o666)
	if err == nil {
		err = flush(tmp)
	}
	if err == nil {
		err = os.Rename(tmp, q.path(base, ".new"))
	}
	if err != nil {
		_ = os.Remove(tmp)
		return wrap(err)
	}
	if err := flush(string(q)); err != nil {
		return fmt.Errorf("%w: %w", adapters.ErrUnconfirmed, err)
	}
	return nil
}

// claim takes the oldest message that waits, or that a dead client holds. It reads
// the whole directory: good for thousands of messages, not for millions.
func (h *delivered) claim() (c content, err error) {
	entries, err := os.ReadDir(string(h.queue))
	if err != nil {
		return c, wrap(err)
	}
	me := h.driver.id
	lives := map[string]bool{me: true, "": true}
	for _, e := range entries {
		base, state, _ := strings.Cut(e.Name(), ".")
		state, holder, _ := strings.Cut(state, ".")
		if _, known := lives[holder]; !known {
			lives[holder] = h.driver.alive(holder)
		}
		if state == "tmp" && !lives[holder] {
			_ = os.Remove(h.queue.path(e.Name())) // its Publish never returned
		}
		if state != "new" && state != "again" && (state != "held" || lives[holder]) {
			continue
		}
		mine := h.queue.path(base, ".held.", me)
		if os.Rename(h.queue.path(e.Name()), mine) != nil {
			continue // somebody was faster
		}
		b, err := os.ReadFile(mine)
		if err != nil {
			return c, wrap(errors.Join(err, os.Rename(mine, h.queue.path(e.Name()))))
		}
		if err = gob.NewDecoder(bytes.NewReader(b)).Decode(&c); err == nil {
			h.base, h.again = base, state != "new"
			return c, nil
		}
		if err := os.Rename(mine, h.queue.path(base, ".bad")); err != nil {
			return c, wrap(err)
		}
		c = content{}
	}
	return c, adapters.ErrEmpty
}

// flush returns when a file, or the names in a directory, are on the disk.
func flush(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func wrap(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", adapters.ErrNotFound, err)
	}
	return fmt.Errorf("%w: %w", adapters.ErrUnavailable, err)
}
