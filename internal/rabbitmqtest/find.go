package rabbitmqtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
)

// ErrMissing is in the error of what needs RabbitMQ where there is none.
var ErrMissing = errors.New("RabbitMQ is not installed here")

// serverVar names a rabbitmq-server script to use instead of the one found.
const serverVar = "MOTIF_RABBITMQ_SERVER"

// programs are what a node is made of.
type programs struct{ server, epmd string }

// findPrograms looks for RabbitMQ and Erlang in the places where they are
// usual. It says what to install if they are in none.
func findPrograms() (programs, error) {
	var p programs
	if p.server = os.Getenv(serverVar); p.server == "" {
		// Debian's rabbitmq-server in PATH becomes another user, who has
		// neither our environment nor access to our files. This is what it
		// calls in the end.
		p.server = find("rabbitmq-server", "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin")
	}
	p.epmd = find("epmd", "/usr/lib/erlang/erts-*/bin", "/usr/local/lib/erlang/erts-*/bin")
	if p.server == "" || p.epmd == "" {
		return p, fmt.Errorf("%w: %s", ErrMissing, howToInstall())
	}
	return p, nil
}

// find returns the last of the folders' files with that name, which is the
// newest version, or the one in PATH, or "".
func find(name string, folders ...string) string {
	for _, folder := range folders {
		if found, err := filepath.Glob(filepath.Join(folder, name)); err == nil && len(found) > 0 {
			return slices.Max(found)
		}
	}
	if found, err := exec.LookPath(name); err == nil {
		return found
	}
	if found, err := filepath.Glob("/opt/homebrew/sbin/" + name); err == nil && len(found) > 0 {
		return found[0]
	}
	return ""
}

func howToInstall() string {
	switch {
	case runtime.GOOS == "darwin":
		return "run: brew install rabbitmq"
	case hasApt():
		return "run as root: apt-get install --no-install-recommends rabbitmq-server"
	}
	return "see https://www.rabbitmq.com/docs/download, then put rabbitmq-server and epmd in PATH"
}

func hasApt() bool {
	_, err := exec.LookPath("apt-get")
	return err == nil
}
