package floors

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// goMod is a go.mod or go.work, as go mod edit -json writes it.
type goMod struct {
	Module  struct{ Path string }
	Go      string
	Require []struct {
		Path, Version string
		Indirect      bool
	}
	Replace []struct {
		Old, New struct{ Path, Version string }
	}
	Use []struct{ DiskPath string }
}

func readGoMod(t *testing.T, edit, file string) (m goMod) {
	t.Helper()
	if err := json.Unmarshal([]byte(goIn(t, root, edit, "edit", "-json", file)), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// goIn runs the go command in a folder.
func goIn(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	if dir != root { // somebody else's module: no workspace, and what the go command finds out is written down
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "GOSUMDB=off")
	}
	var says strings.Builder
	cmd.Stderr = &says
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, says.String())
	}
	return string(out)
}

// The root's go.mod names what its production code imports, and no more. What else there is knows
// the root beside it, agrees on versions, and is in go.work.
func TestModules(t *testing.T) {
	var found []string
	for _, depth := range []string{"/*", "/*/*", "/*/*/*"} {
		mods, err := filepath.Glob(root + depth + "/go.mod")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range mods {
			found = append(found, strings.TrimPrefix(filepath.ToSlash(filepath.Dir(file)), root+"/"))
		}
	}
	if slices.Sort(found); !slices.Equal(found, nested) {
		t.Errorf("the modules below the root are %q, in internal/floors they are %q", found, nested)
	}
	var used []string
	for _, use := range readGoMod(t, "work", "go.work").Use {
		used = append(used, strings.TrimPrefix(use.DiskPath, "./"))
	}
	if !slices.Equal(used, append([]string{"."}, nested...)) {
		t.Errorf("go.work joins %q", used)
	}

	core := readGoMod(t, "mod", "go.mod")
	versions := map[string]string{}
	for _, r := range core.Require {
		versions[r.Path] = r.Version
		if !r.Indirect && r.Path != watermill && r.Path != amqp091 {
			t.Errorf("go.mod names %s", r.Path)
		}
	}
	if len(core.Replace) > 0 {
		t.Error("go.mod replaces modules: nobody could install what is in it")
	}
	for _, dir := range nested {
		m := readGoMod(t, "mod", dir+"/go.mod")
		if m.Module.Path != module+"/"+dir || m.Go != core.Go {
			t.Errorf("%s is the module %s for go %s", dir, m.Module.Path, m.Go)
		}
		for _, r := range m.Require {
			if v := versions[r.Path]; v != "" && v != r.Version && !r.Indirect {
				t.Errorf("%s requires %s %s, others %s", dir, r.Path, r.Version, v)
			}
			if !r.Indirect {
				versions[r.Path] = r.Version
			}
		}
		up := strings.Repeat("../", strings.Count(dir, "/")) + ".."
		usesAll := within(dir, "internal") || within(dir, "examples")
		for i, r := range m.Replace {
			of := strings.TrimPrefix(r.Old.Path, module+"/")
			switch {
			case i == 0 && r.Old.Path == module && r.New.Path == up:
			case usesAll && slices.Contains(nested, of) && r.New.Path == up+"/"+of:
			default:
				t.Errorf("%s replaces %+v, and not the root alone by %s", dir, m.Replace, up)
			}
		}
		if len(m.Replace) == 0 {
			t.Errorf("%s does not know the root beside it", dir)
		}
	}
}

// TestStrangersModule: a new module that imports the library gets watermill and the AMQP client
// with it, and no peer of our tests.
func TestStrangersModule(t *testing.T) {
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	stranger := func(t *testing.T, imports ...string) (deps []string, dir string) {
		t.Helper()
		dir = t.TempDir()
		var program strings.Builder
		program.WriteString("package main\n\n")
		for _, pkg := range imports {
			program.WriteString("import _ \"" + module + "/" + pkg + "\"\n")
		}
		program.WriteString("\nfunc main() {}\n")
		sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"main.go": program.String(),
			"go.sum":  string(sums),
			"go.mod":  "module example.com/stranger\n\ngo " + readGoMod(t, "mod", "go.mod").Go + "\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		goIn(t, dir, "mod", "edit", "-require="+module+"@v0.0.0", "-replace="+module+"="+here)
		deps = strings.Fields(goIn(t, dir, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "."))
		if !slices.Contains(deps, module+"/patterns") {
			t.Fatalf("it depends on %q only: the search is broken", deps)
		}
		return deps, dir
	}
	allowed := append(foreignDeps(t, watermill+"/message"), "example.com/stranger")
	ours := func(pkg string) bool { return within(pkg, module) }

	t.Run("memory", func(t *testing.T) {
		deps, _ := stranger(t, "patterns", "adapters/memory")
		for _, pkg := range deps {
			if !ours(pkg) && !slices.Contains(allowed, pkg) {
				t.Errorf("it depends on %s", pkg)
			}
		}
	})
	t.Run("memory and amqp", func(t *testing.T) {
		deps, dir := stranger(t, "patterns", "adapters/memory", "adapters/amqp")
		for _, pkg := range deps {
			if !ours(pkg) && !slices.Contains(allowed, pkg) && pkg != amqp091 {
				t.Errorf("it depends on %s", pkg)
			}
		}
		graph := strings.Split(strings.TrimSpace(goIn(t, dir, "mod", "graph")), "\n")
		edges := map[string][]string{} // by the name of who requires
		for _, line := range graph {
			from, to, _ := strings.Cut(line, " ")
			name := func(s string) string { s, _, _ = strings.Cut(s, "@"); return s }
			edges[name(from)] = append(edges[name(from)], name(to))
			if path.Base(path.Dir(name(to))) == "watermill-amqp" || within(name(to), module) && name(to) != module {
				t.Errorf("in its module graph: %s", line)
			}
		}
		if !slices.Contains(edges[module], watermill) {
			t.Fatalf("we require %q: the search is broken", edges[module])
		}
		for _, required := range edges[module] {
			if required != watermill && required != amqp091 && required != "go" && !slices.Contains(edges[watermill], required) {
				t.Errorf("it gets %s from us", required)
			}
		}
	})
}
