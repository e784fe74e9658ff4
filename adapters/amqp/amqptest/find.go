package amqptest

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// cacheFolder has the root folders that Install makes, each with one version:
// rabbitmq-4.3.
const cacheFolder = "/var/cache/motif"

// serverFolder is where Debian has what its own scripts call in the end.
const serverFolder = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin"

func rootOf(version string) string { return filepath.Join(cacheFolder, "rabbitmq-"+version) }

// findPrograms looks for RabbitMQ and Erlang. It says what to install if there
// are none, or none of that version.
func findPrograms(version string) (programs, error) { return choose(version, installed()) }

// installed lists what is on this machine: the folders that Install has made, and
// what the machine has of its own, in the places where that is usual.
func installed() []programs {
	roots, err := filepath.Glob(rootOf("*"))
	if err != nil || len(roots) > 0 && unshare() == nil {
		roots = nil
	}
	var all []programs
	for _, root := range append(roots, "") {
		p := programs{
			root: root,
			// Debian's rabbitmq-server in PATH becomes another user, who has
			// neither our environment nor access to our files.
			server: find(root, "rabbitmq-server", serverFolder),
			epmd:   find(root, "epmd", "/usr/lib/erlang/erts-*/bin", "/usr/local/lib/erlang/erts-*/bin"),
		}
		if p.server != "" && p.epmd != "" {
			p.version = versionIn(root + p.server)
			all = append(all, p)
		}
	}
	return all
}

// find returns the last of the folders' files with that name, which is the
// newest version; on the machine itself else the one in PATH; or "".
func find(root, name string, folders ...string) string {
	for _, folder := range folders {
		if found, err := filepath.Glob(filepath.Join(root, folder, name)); err == nil && len(found) > 0 {
			return strings.TrimPrefix(slices.Max(found), root)
		}
	}
	if root != "" {
		return ""
	}
	if found, err := exec.LookPath(name); err == nil {
		return found
	}
	if found, err := filepath.Glob("/opt/homebrew/sbin/" + name); err == nil && len(found) > 0 {
		return found[0]
	}
	return ""
}

// versionIn is the version that is part of where a server is, or of where a link
// to it leads: rabbitmq_server-4.3.6/sbin, Cellar/rabbitmq/4.3.6/sbin.
func versionIn(server string) string {
	if target, err := filepath.EvalSymlinks(server); err == nil {
		server = target
	}
	found := regexp.MustCompile(`rabbitmq.*[-/](\d+\.\d+\.\d+)/`).FindStringSubmatch(server)
	if found == nil {
		return ""
	}
	return found[1]
}

func howToInstall(version string) string {
	switch {
	case hasApt():
		if version != "" {
			version = " MOTIF_RABBITMQ=" + version
		}
		return "run as root, in a container with --privileged:" + version + " go run github.com/motifmq/motif/adapters/amqp/amqptest/cmd/broker -install"
	case runtime.GOOS == "darwin" && version == "":
		return "run: brew install rabbitmq"
	case version != "":
		return fmt.Sprintf("put its rabbitmq-server and Erlang's epmd in PATH, or use Debian (%s in the environment is the version)", versionVar)
	}
	return "see https://www.rabbitmq.com/docs/download, then put rabbitmq-server and epmd in PATH"
}

func hasApt() bool {
	_, err := exec.LookPath("apt-get")
	return err == nil
}
