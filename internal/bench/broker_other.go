//go:build !linux

package main

import (
	"errors"
	"time"
)

// cpuOf is for Linux only.
func cpuOf(int) (time.Duration, error) { return 0, errors.ErrUnsupported }
