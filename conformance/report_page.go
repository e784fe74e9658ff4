package conformance

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed report_page.html
var pageSource string

var page = template.Must(template.New("page").Parse(pageSource))

// WriteHTML writes one page that needs nothing else: what became of each rule
// with each adapter, what became of the messages, and every failure with the
// sentence that it violates.
func (m Matrix) WriteHTML(w io.Writer) error {
	return page.Execute(w, m.page())
}

// What the page shows.
type (
	pageData struct {
		Date      string
		Rules     int
		Columns   int // of the table of rules
		Adapters  []pageAdapter
		Legend    []pageCell
		Groups    []pageGroup // of figures
		Areas     []pageArea
		Faultless string // the adapters without a failure
	}
	pageGroup struct {
		Name  string
		Names []string
	}
	pageAdapter struct {
		Name, About, Claims string
		Figures             []pageCell
		Failures            []pageFailure
	}
	pageArea struct {
		Name string
		Rows []pageRow
	}
	pageRow struct {
		Name, Rule string // of a case: its ID, and what it says
		Cells      []pageCell
	}
	pageCell struct {
		Label        string // where there is no head above it: the adapter, or the figure
		Class        string
		Symbol, Word string
		Small        string // what is missing
		Failure      string // its place on the page
		Text         string // in place of all that
	}
	pageFailure struct {
		Anchor, ID, Rule, Note string
		Why                    []string
		Long                   bool
	}
)

// marks tell allOutcomes apart without colour, beside their words.
var marks = map[Outcome]struct{ symbol, meaning string }{
	Pass:          {"✓", "the rule holds"},
	Fail:          {"✗", "it does not; the sentence that is violated is below"},
	Refused:       {"⊘", "the ability is not claimed, and asking for it is refused in the adapter’s name, as it must be"},
	NotClaimed:    {"–", "a promise that the adapter does not make, and that no program could ask for"},
	NotApplicable: {"○", "there is no such thing to do to this broker"},
	NotRun:        {"?", "the run ended first"},
}

func cellOf(o Outcome) pageCell {
	return pageCell{Class: strings.ReplaceAll(string(o), " ", "-"), Symbol: marks[o].symbol, Word: string(o)}
}

func (m Matrix) page() pageData {
	rules := m.rules()
	var faultless []string
	data := pageData{Rules: len(rules), Columns: len(m) + 1}
	for i := range m {
		r := &m[i]
		if !r.Began.IsZero() {
			data.Date = r.Began.UTC().Format("2 January 2006")
		}
		a := pageAdapter{Name: r.Adapter, About: r.About, Claims: strings.Join(r.Claims, ", ")}
		for _, result := range r.Results {
			if result.Outcome == Fail {
				f := pageFailure{anchor(i, result.ID), result.ID, result.Rule, r.Notes[result.ID], result.Why, false}
				f.Long = len(strings.Join(f.Why, "")) > 600
				a.Failures = append(a.Failures, f)
			}
		}
		for _, f := range m.figures() {
			a.Figures = append(a.Figures, pageCell{Label: f.name, Text: f.of(r)})
		}
		if a.Failures == nil {
			faultless = append(faultless, a.Name)
		}
		data.Adapters = append(data.Adapters, a)
	}
	data.Faultless = strings.Join(faultless, ", ")
	for _, f := range m.figures() {
		if n := len(data.Groups); n == 0 || data.Groups[n-1].Name != f.about {
			data.Groups = append(data.Groups, pageGroup{Name: f.about})
		}
		group := &data.Groups[len(data.Groups)-1]
		group.Names = append(group.Names, f.name)
	}
	seen := map[Outcome]bool{}
	for _, area := range m.areas() {
		block := pageArea{Name: area}
		for _, rule := range rules {
			if (Case{ID: rule.ID}).Area() != area {
				continue
			}
			row := pageRow{Name: rule.ID, Rule: rule.Rule}
			for i := range m {
				cell := m[i].cell(i, rule.ID)
				row.Cells = append(row.Cells, cell)
				if result := m[i].Find(rule.ID); result != nil {
					seen[result.Outcome] = true
				}
			}
			block.Rows = append(block.Rows, row)
		}
		data.Areas = append(data.Areas, block)
	}
	for _, o := range allOutcomes {
		if seen[o] {
			cell := cellOf(o)
			cell.Text = marks[o].meaning
			data.Legend = append(data.Legend, cell)
		}
	}
	return data
}

// cell is what became of a rule in the column of r, which is the one with that
// number.
func (r *Report) cell(column int, id string) pageCell {
	result := r.Find(id)
	if result == nil {
		return pageCell{Label: r.Adapter}
	}
	cell := cellOf(result.Outcome)
	cell.Label = r.Adapter
	switch result.Outcome {
	case Fail:
		cell.Failure = anchor(column, id)
	case Refused, NotApplicable:
		_, cell.Small, _ = strings.Cut(strings.Join(result.Why, "; "), ": ")
	}
	return cell
}

func anchor(column int, id string) string {
	return fmt.Sprintf("failure-%d-%s", column+1, strings.ReplaceAll(id, "/", "-"))
}
