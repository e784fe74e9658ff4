//go:build unix && !solaris && !aix

package jetstream

import (
	"errors"
	"os"
	"syscall"
)

// lockFile locks a file for as long as it is open: the lock ends with the process at the latest.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
