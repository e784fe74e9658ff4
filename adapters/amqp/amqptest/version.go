package amqptest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// versionVar is the version of RabbitMQ for whatever does not ask for one
// itself: 4.3.
const versionVar = "MOTIF_RABBITMQ"

// releases are those that Motif is tested on, from the oldest to the newest, each
// with the suite of Debian that has it.
var releases = []release{
	{"3.10", "bookworm"},
	{"4.0", "trixie"},
	{"4.3", "forky"},
}

type release struct{ version, suite string }

// Versions lists the versions of RabbitMQ that Motif is tested on, from the
// oldest to the newest, as [Options] take them.
func Versions() []string {
	var versions []string
	for _, r := range releases {
		versions = append(versions, r.version)
	}
	return versions
}

// versionsOr are the versions given, else the one chosen, else all.
func versionsOr(given []string) []string {
	switch chosen := os.Getenv(versionVar); {
	case len(given) > 0:
		return given
	case chosen != "":
		return []string{chosen}
	}
	return Versions()
}

// ErrMissing is in the error of what needs RabbitMQ where there is none, or not
// that version.
var ErrMissing = errors.New("RabbitMQ is not installed here")

// errUnknownVersion is a mistake, and no reason to skip a test.
var errUnknownVersion = errors.New("unknown version of RabbitMQ")

// programs are what a node is made of.
type programs struct {
	version string // such as 4.3.6; "" if unknown
	root    string // the root folder that they were made for, if it is not the machine's
	server  string // rabbitmq-server, as a path below root
	epmd    string // Erlang's name server, too
}

// choose returns the programs of a version: the one given, else what
// MOTIF_RABBITMQ says, else the newest.
func choose(version string, found []programs) (programs, error) {
	version = cmp.Or(version, os.Getenv(versionVar))
	fits := slices.DeleteFunc(slices.Clone(found), func(p programs) bool {
		return version != "" && p.version != version && !strings.HasPrefix(p.version, version+".")
	})
	if len(fits) > 0 {
		return slices.MaxFunc(fits, func(a, b programs) int { return compareVersions(a.version, b.version) }), nil
	}
	if version != "" && !slices.Contains(Versions(), version) {
		return programs{}, fmt.Errorf("%w: %q; those known are %s", errUnknownVersion, version, strings.Join(Versions(), ", "))
	}
	return programs{}, fmt.Errorf("%w: %s", missing(version), howToInstall(version))
}

func missing(version string) error {
	if version == "" {
		return ErrMissing
	}
	return fmt.Errorf("%w: version %s", ErrMissing, version)
}

func compareVersions(a, b string) int { return slices.Compare(numbers(a), numbers(b)) }

// numbers are those of a version, so that 3.10 is more than 3.9.
func numbers(version string) []int {
	var all []int
	for part := range strings.SplitSeq(version, ".") {
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		all = append(all, n)
	}
	return all
}
