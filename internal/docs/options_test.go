package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const optionsPage = "docs/options.md"

// parsed returns the files of a package, without its tests.
func parsed(t *testing.T, dir string) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// places is what the page calls whatever takes an option, by the method that an option has for it.
var places = map[string]string{
	"applyBus": "New", "applyQueue": "NewWorkQueue", "applyWork": "Work", "applySubscribe": "Subscribe",
	"applyExchange": "NewTopic", "applyServe": "Serve", "applyPublish": "publish", "applyCall": "Call",
	"applyBatch": "WorkBatch", "applySchedule": "Schedule", "applySubscribeBatch": "SubscribeBatch",
}

// withBatches returns places without those of batches where the page does not name them: what Work
// takes WorkBatch takes, and what Subscribe takes SubscribeBatch takes.
func withBatches(places []string) []string {
	for _, of := range []string{"Work", "Subscribe"} {
		with, without := slices.Contains(places, of+"Batch"), slices.Contains(places, of)
		places = slices.DeleteFunc(places, func(p string) bool { return p == of+"Batch" && without })
		if without && !with {
			places = append(places, "no "+of+"Batch")
		}
	}
	return places
}

// optionPlaces returns where each option of package patterns may be given, as its type says.
func optionPlaces(t *testing.T) map[string][]string {
	t.Helper()
	methods := map[string][]string{} // of each type
	results := map[string]string{}   // the type that each exported function returns
	for _, file := range parsed(t, "patterns") {
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if place := places[decl.Name.Name]; place != "" && decl.Recv != nil {
					on := decl.Recv.List[0].Type.(*ast.Ident).Name
					methods[on] = append(methods[on], place)
				}
				if result := decl.Type.Results; decl.Recv == nil && decl.Name.IsExported() && result != nil && len(result.List) == 1 {
					if of, ok := result.List[0].Type.(*ast.Ident); ok && strings.HasSuffix(of.Name, "Option") {
						results[decl.Name.Name] = of.Name
					}
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					if spec, ok := spec.(*ast.TypeSpec); ok {
						if of, ok := spec.Type.(*ast.InterfaceType); ok {
							for _, m := range of.Methods.List {
								if len(m.Names) == 1 && places[m.Names[0].Name] != "" {
									methods[spec.Name.Name] = append(methods[spec.Name.Name], places[m.Names[0].Name])
								}
							}
						}
					}
				}
			}
		}
	}
	options := map[string][]string{}
	for name, of := range results {
		slices.Sort(methods[of])
		options[name] = withBatches(slices.Clone(methods[of]))
	}
	return options
}

// fieldsOf returns the exported fields of a struct.
func fieldsOf(t *testing.T, dir, name string) (fields []string) {
	t.Helper()
	for _, file := range parsed(t, dir) {
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == name {
				for _, f := range spec.Type.(*ast.StructType).Fields.List {
					for _, id := range f.Names {
						if id.IsExported() {
							fields = append(fields, id.Name)
						}
					}
				}
			}
			return true
		})
	}
	if len(fields) == 0 {
		t.Fatalf("%s has no struct %s", dir, name)
	}
	return fields
}

// rows returns the cells of the tables in a part of a page, by the name in the first one.
func rows(text string) map[string][]string {
	rows := map[string][]string{}
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		name := strings.TrimSpace(cells[0])
		if inner := strings.Trim(name, "`"); len(cells) > 2 && name == "`"+inner+"`" {
			rows[inner] = cells
		}
	}
	return rows
}

// TestOptionsPageIsComplete: every option has a row, which says where the compiler lets it stand,
// and every row is about something that exists.
func TestOptionsPageIsComplete(t *testing.T) {
	patterns, rest, _ := strings.Cut(read(t, optionsPage), "\n## RabbitMQ\n")
	patterns, queue := cutSection(patterns, "### RetryPolicy\n")
	amqp, memory, ok := strings.Cut(rest, "\n## The in-process broker\n")
	if !ok {
		t.Fatalf("%s has other sections than the test looks for", optionsPage)
	}
	options := optionPlaces(t)
	if len(options) < 30 {
		t.Fatalf("%d options found: the search is broken", len(options))
	}
	page := rows(patterns)
	for name, where := range options {
		stated, byDefault := []string{}, ""
		if cells := page[name]; len(cells) > 3 {
			byDefault = strings.TrimSpace(cells[1])
			stated = strings.Fields(strings.ReplaceAll(cells[2], "`", ""))
			slices.Sort(stated)
		}
		if byDefault == "" || !slices.Equal(stated, where) {
			t.Errorf("%s: %s has the default %q and is for %v; by its type it is for %v", optionsPage, name, byDefault, stated, where)
		}
	}
	same(t, page, slices.Collect(maps.Keys(options)))
	same(t, rows(queue), fieldsOf(t, "patterns", "RetryPolicy"))
	same(t, rows(amqp), fieldsOf(t, "adapters/amqp", "Config"))
	same(t, rows(memory), memoryOptions(t))
}

// cutSection cuts a section out of a page.
func cutSection(page, heading string) (without, section string) {
	before, rest, _ := strings.Cut(page, heading)
	section, after, _ := strings.Cut(rest, "\n## ")
	return before + "\n## " + after, section
}

// memoryOptions returns the options of [memory.New].
func memoryOptions(t *testing.T) (names []string) {
	t.Helper()
	for _, file := range parsed(t, "adapters/memory") {
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !f.Name.IsExported() || f.Type.Results == nil {
				continue
			}
			if of, ok := f.Type.Results.List[0].Type.(*ast.Ident); ok && of.Name == "Option" {
				names = append(names, f.Name.Name)
			}
		}
	}
	return names
}

// same fails if a table is not about exactly these.
func same(t *testing.T, page map[string][]string, names []string) {
	t.Helper()
	for _, name := range names {
		if _, ok := page[name]; !ok {
			t.Errorf("%s has no row for %s", optionsPage, name)
		}
	}
	for name := range page {
		if !slices.Contains(names, name) {
			t.Errorf("%s has a row for %s, which does not exist", optionsPage, name)
		}
	}
}
