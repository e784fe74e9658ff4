package floors

import (
	"slices"
	"strings"
	"testing"
)

// TestSuiteCostsNothing: an adapter of somebody else that is proved by the
// suite depends on nothing more for that than the seam, watermill's messages and the patterns do.
func TestSuiteCostsNothing(t *testing.T) {
	allowed := foreignDeps(t, watermill+"/message")
	if len(allowed) == 0 {
		t.Fatal("watermill's messages do not even depend on themselves: the search is broken")
	}
	deps := foreignDeps(t, module+"/conformance")
	if !slices.Contains(deps, watermill+"/message") || !slices.Contains(deps, module+"/patterns") {
		t.Fatalf("the suite depends on %q only: the search is broken", deps)
	}
	for _, pkg := range deps {
		if !slices.Contains(allowed, pkg) && !slices.Contains(suiteMayUse, strings.TrimPrefix(pkg, module+"/")) {
			t.Errorf("the suite depends on %s", pkg)
		}
	}
}

// suiteMayUse are our own packages that the suite may depend on: none of them
// is an adapter.
var suiteMayUse = []string{"adapters", "patterns", "conformance", "conformance/history"}

// foreignDeps are the dependencies of a package, and itself, beyond the
// standard library.
func foreignDeps(t *testing.T, pkg string) []string {
	t.Helper()
	return strings.Fields(goIn(t, root, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", pkg))
}
