//go:build !unix || solaris || aix

package jetstream

import "os"

// lockFile opens a file. Here nothing keeps another process from the folder.
func lockFile(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}
