package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWatermillsMiddlewareIsJudged: the page about middleware and the documentation of the package
// say of each middleware that watermill has whether it fits.
func TestWatermillsMiddlewareIsJudged(t *testing.T) {
	_, page, _ := strings.Cut(read(t, "docs/middleware.md"), "\n## watermill's own\n")
	page, _, _ = strings.Cut(page, "\n## ")
	_, doc, _ := strings.Cut(read(t, "middleware/doc.go"), "# Watermill's own middleware")
	judged := map[string]bool{}
	for line := range strings.Lines(page) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			for _, name := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(cells[1], -1) {
				judged[name[1]] = true
			}
		}
	}
	names := watermillMiddleware(t)
	if len(names) < 10 {
		t.Fatalf("%d found: the search is broken", len(names))
	}
	for name := range names {
		if !judged[name] {
			t.Errorf("docs/middleware.md does not say whether watermill's %s fits", name)
		}
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(doc) {
			t.Errorf("middleware/doc.go does not say whether watermill's %s fits", name)
		}
	}
	for name := range judged {
		if !names[name] {
			t.Errorf("docs/middleware.md says that watermill has %s, which it does not", name)
		}
	}
}

// watermillMiddleware returns the names of what goes around a handler in watermill's package.
func watermillMiddleware(t *testing.T) map[string]bool {
	t.Helper()
	const pkg = "github.com/ThreeDotsLabs/watermill/message/router/middleware"
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", pkg).Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Type.Results != nil && aroundHandler(f) {
				if of := middlewareName(f); ast.IsExported(of) {
					names[of] = true
				}
			}
		}
	}
	return names
}

// aroundHandler reports whether f is a middleware, or makes one.
func aroundHandler(f *ast.FuncDecl) (around bool) {
	ast.Inspect(f.Type.Results, func(n ast.Node) bool {
		of, ok := n.(*ast.SelectorExpr)
		around = around || ok && (of.Sel.Name == "HandlerFunc" || of.Sel.Name == "HandlerMiddleware")
		return true
	})
	return around
}

// middlewareName is the type whose method f is, or the name of f itself.
func middlewareName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return strings.TrimSuffix(f.Name.Name, "WithFilter") // of PoisonQueue, which it is otherwise
	}
	of := f.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	return of.(*ast.Ident).Name
}
