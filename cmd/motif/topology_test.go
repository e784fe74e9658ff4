package main

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/motifmq/motif/adapters"
)

// file writes a file, and returns its name.
func file(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "topology.json")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestTopology(t *testing.T) {
	const url = "memory:topology"
	d, err := adapters.Open(t.Context(), url) // the broker is gone with its last client
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context())
	one := file(t, `{"version":1,"queues":[{"name":"orders","dead_letter":"orders.dead"},{"name":"orders.dead"}]}`)
	two := file(t, `{"version":1,"queues":[{"name":"orders","max_length":5}]}`)
	clash := file(t, `{"version":1,"queues":[{"name":"orders.dead","max_length":5}]}`)
	for _, c := range []struct {
		args string
		code int
		want string // in what it writes
	}{
		{"diff " + one, exitOK, `missing    queue "orders"`},
		{"verify " + one, exitDiffers, "2 things differ"},
		{"plan " + one, exitOK, `create missing    queue "orders.dead"`},
		{"apply " + one, exitOK, `created missing    queue "orders"`},
		{"verify " + one, exitOK, "Nothing to do"},
		{"apply " + one, exitOK, "Nothing to do"},
		{"verify " + two, exitDiffers, `differs    queue "orders": dead-letter queue is orders.dead, not none; max length is none, not 5`},
		{"apply " + two, exitFailed, "exists with other properties"},
		{"verify " + two + " -json", exitDiffers, `"state":"differs"`},
		{"verify " + two + " -earlier " + one, exitDiffers, `undeclared queue "orders.dead"`},
		{"verify " + one + " " + clash, exitFailed, "different properties"},
		{"verify " + one + ".not", exitFailed, "no such file"},
		{"verify " + file(t, "<html>"), exitFailed, "no topology"},
		{"verify", exitUsage, "needs more arguments"},
		{"migrate orders " + two, exitFailed, "adapter memory cannot move a queue"},
		{"migrate orders " + two + " -prepare -finish", exitUsage, "not both"},
	} {
		code, out, errs := motif(t, "", append([]string{"topology"}, append(strings.Fields(c.args), "-url", url)...)...)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("motif topology %s: exit %d, want %d and %q in: %s%s", c.args, code, c.code, c.want, out, errs)
		}
	}
}

// listsNothing is a broker that does not say what there is, as RabbitMQ without its management API.
type listsNothing struct{ adapters.Driver }

func (d listsNothing) Features() adapters.Features {
	f := d.Driver.Features()
	f.Ability &^= adapters.CanList | adapters.CanListBindings
	return f
}

func init() {
	adapters.Register("lists-nothing", func(ctx context.Context, u *url.URL) (adapters.Driver, error) {
		d, err := adapters.Open(ctx, "memory:"+u.Opaque)
		if err != nil {
			return nil, err
		}
		return struct {
			listsNothing
			adapters.Inspector
		}{listsNothing{d}, d.(adapters.Inspector)}, nil
	})
}

// TestTopologyNotLookedAt: what is declared and could not be looked at is not as declared.
func TestTopologyNotLookedAt(t *testing.T) {
	d, err := adapters.Open(t.Context(), "memory:lists-nothing") // the broker is gone with its last client
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close(t.Context())
	queue := file(t, `{"version":1,"queues":[{"name":"orders"}]}`)
	group := file(t, `{"version":1,"exchanges":[{"name":"news","kind":"fanout"}],"queues":[{"name":"news:audit","exchange":"news","group":"audit"}]}`)
	for _, s := range []step{
		{args: "verify " + group, code: exitDiffers, want: []string{"missing", "not looked at: bindings"}},
		{args: "apply " + group, want: []string{"created", "not looked at: bindings"}},
		{args: "verify " + group, code: exitFailed, want: []string{"not looked at: bindings", "management="}, never: []string{"Nothing to do"}},
		{args: "verify -json " + group, code: exitFailed, want: []string{`"partial":true`}},
		{args: "plan " + group, want: []string{"not looked at: bindings"}, never: []string{"Nothing to do"}},
		{args: "apply -prune " + group, want: []string{"not looked at: bindings"}, never: []string{"Nothing to do"}},
		{args: "apply " + queue, want: []string{"created"}},
		{args: "verify " + queue, want: []string{"not looked at: queues that nobody declares any more", "Nothing to do"}, never: []string{"bindings"}},
	} {
		s.args = "topology " + s.args + " -url lists-nothing:lists-nothing"
		s.run(t)
	}
}
