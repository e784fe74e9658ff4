//go:build !linux

package node

import "syscall"

func dieWithUs() *syscall.SysProcAttr { return nil }

func lockThread() (unlock func()) { return func() {} }
