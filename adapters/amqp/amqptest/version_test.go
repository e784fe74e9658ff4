package amqptest

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChoose(t *testing.T) {
	found := []programs{{version: "4.0.5", root: "/a"}, {version: "3.10.8"}, {version: "3.9.1"}, {version: ""}, {version: "4.1.4"}}
	for _, c := range []struct{ option, environment, want string }{
		{"", "", "4.1.4"},
		{"3.10", "", "3.10.8"},
		{"", "3.10", "3.10.8"},
		{"4.0", "3.10", "4.0.5"},
		{"4.0.5", "", "4.0.5"},
		{"4", "", "4.1.4"},
		{"4.1", "", "4.1.4"}, // which is there, if none that we know
	} {
		t.Setenv(versionVar, c.environment)
		if p, err := choose(c.option, found); err != nil || p.version != c.want {
			t.Errorf("%q, %s=%q: %q, %v; want %q", c.option, versionVar, c.environment, p.version, err, c.want)
		}
	}
	if p, err := choose("", found[:2]); err != nil || p.version != "4.0.5" {
		t.Errorf("the newest of two is %q, %v", p.version, err)
	}
}

func TestChooseInVain(t *testing.T) {
	t.Setenv(versionVar, "")
	_, err := choose("4.3", []programs{{version: "4.30.1"}})
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "4.3: run as root") && hasApt() {
		t.Errorf("not installed: %v", err)
	}
	if _, err = choose("", nil); !errors.Is(err, ErrMissing) {
		t.Errorf("none installed: %v", err)
	}
	_, err = choose("4.7", []programs{{version: "4.3.6"}})
	if !errors.Is(err, errUnknownVersion) || errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), `"4.7"; those known are 3.10, 4.0, 4.3`) {
		t.Errorf("unknown: %v", err)
	}
}

func TestVersionIn(t *testing.T) {
	dir := t.TempDir()
	cellar := filepath.Join(dir, "Cellar", "rabbitmq", "4.1.4", "sbin")
	if err := os.MkdirAll(cellar, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "rabbitmq-server")
	if err := errors.Join(os.WriteFile(filepath.Join(cellar, "rabbitmq-server"), nil, 0o600),
		os.Symlink(filepath.Join(cellar, "rabbitmq-server"), link)); err != nil {
		t.Fatal(err)
	}
	for server, want := range map[string]string{
		link: "4.1.4",
		"/var/cache/motif/rabbitmq-4.3/usr/lib/rabbitmq/lib/rabbitmq_server-4.3.6/sbin/rabbitmq-server": "4.3.6",
		"/usr/sbin/rabbitmq-server-of-some-system":                                                      "",
	} {
		if got := versionIn(server); got != want {
			t.Errorf("%s: %q, want %q", server, got, want)
		}
	}
}

// The node that starts is of the version that was asked for. The Makefile says which are to be
// there; without it that is the one that was chosen, or else each.
func TestVersions(t *testing.T) {
	versions := strings.Fields(cmp.Or(os.Getenv("MOTIF_VERSIONS"), os.Getenv(versionVar)))
	if len(versions) == 0 {
		versions = Versions()
	}
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			_, err := findPrograms(version)
			orSkip(t, err)
			n := Private(t, Options{Version: version})
			if !strings.HasPrefix(n.Version, version+".") {
				t.Errorf("it is %q", n.Version)
			}
		})
	}
}

// The Makefile repeats the versions, as make cannot ask.
func TestMakefileHasTheVersions(t *testing.T) {
	text, err := os.ReadFile("../../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	if list := strings.Join(Versions(), " "); !strings.Contains(string(text), "$(or $(MOTIF_RABBITMQ),"+list+")") {
		t.Errorf("the Makefile's versions are not %s", list)
	}
}
