package jetstream

import (
	"log/slog"
	"time"
)

// SetLogger implements [adapters.LogSetter].
func (d *Driver) SetLogger(l *slog.Logger) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = l
}

// warn logs what may go wrong again and again: each kind once a minute.
func (d *Driver) warn(what string, args ...any) {
	d.mu.Lock()
	log, last := d.log, d.warned[what]
	due := last.IsZero() || time.Since(last) >= time.Minute
	if due {
		d.warned[what] = time.Now()
	}
	d.mu.Unlock()
	if due {
		log.Warn(what, args...)
	}
}
