package amqptest

import (
	"os/exec"
	"slices"
	"sync"
)

// inRoot runs a command in the root folder $0, which has the home $1 as
// homeInRoot. The mounts are of a namespace that ends with the command: on the
// machine nothing is mounted, and nothing remains so. The folder itself is
// read-only, as all nodes share it.
const inRoot = `
	mount --rbind "$0" "$0" && mount -o remount,bind,ro "$0" &&
	mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" && mount --rbind "$1" "$0` + homeInRoot + `" || exit 1
	root=$0
	shift
	exec chroot "$root" env -C ` + homeInRoot + ` "$@"`

// homeInRoot is a folder that every Debian has, and that is empty.
const homeInRoot = "/mnt"

// unshare is the command that makes the namespace. It takes root, or a system
// where everybody may be root in a namespace of their own; nil if neither is so.
var unshare = sync.OnceValue(func() []string {
	for _, options := range []string{"-m", "-rm"} {
		if exec.CommandContext(untilKilled, "unshare", options, "true").Run() == nil {
			return []string{"unshare", options, "/bin/sh", "-c"}
		}
	}
	return nil
})

// command is a program of the home's, wherever that is. It writes its pid
// before anything else, and keeps it.
func (h *home) command(pidFile string, command ...string) *exec.Cmd {
	if h.root != "" {
		command = slices.Concat(unshare(), []string{inRoot, h.root, h.folder}, command)
	}
	cmd := withPidFile(pidFile, command...)
	cmd.Dir = h.folder
	return cmd
}

// inside is where the home's programs see its folder.
func (h *home) inside() string {
	if h.root != "" {
		return homeInRoot
	}
	return h.folder
}
