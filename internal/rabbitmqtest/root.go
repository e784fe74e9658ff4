package rabbitmqtest

import (
	"os"
	"os/exec"
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

// hasRoots reports whether we may use root folders: changing to one takes root.
func hasRoots() bool { return os.Geteuid() == 0 }

// command is a program of the home's, wherever that is. It writes its pid
// before anything else, and keeps it.
func (h *home) command(pidFile, program string, args ...string) *exec.Cmd {
	if h.root != "" {
		args = append([]string{"-m", "/bin/sh", "-c", inRoot, h.root, h.folder, program}, args...)
		program = "unshare"
	}
	cmd := withPidFile(pidFile, program, args...)
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
