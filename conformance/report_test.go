package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/motifmq/motif/conformance/history"
)

// sample is a matrix with every outcome, and text that is no HTML.
func sample() Matrix {
	result := func(id string, o Outcome, why ...string) Result {
		return Result{ID: id, Rule: "What " + id + " says <b>must</b> hold.", Outcome: o, Why: why, Counts: history.Counts{Attempted: 3, Confirmed: 2, Delivered: 4, Duplicated: 1}}
	}
	return Matrix{
		{
			Adapter: "good", Claims: []string{"fanout", "TTL"}, About: "A good one.", Began: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Took: 1500 * time.Millisecond,
			Results: []Result{
				result("ack/one", Pass), result("ack/two", Pass), result("limit/ttl", Pass), result("durable/queue", NotApplicable, "the harness has no hook: restart"),
			},
		},
		{
			Adapter: "other", Began: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC), Took: 20 * time.Second,
			Notes: map[string]string{"ack/two": "It acks <twice>.", "ack/one": "of no failure"},
			Results: []Result{
				result("ack/one", NotClaimed, "not claimed: fair dispatch"), result("ack/two", Fail, "got 2 & not 1", "goroutines:\n1 in\n  main.main (main.go:1)"),
				result("limit/ttl", Refused, "not claimed: TTL"), result("durable/queue", NotRun, "the run has ended: enough"),
			},
		},
	}
}

func TestMatrixText(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	const want = `rule                   good            other
ack/one                pass            not claimed
ack/two                pass            FAIL
limit/ttl              pass            refused
durable/queue          not applicable  not run

rules: pass            3               0
rules: fail            0               1
rules: refused         0               1
rules: not claimed     0               1
rules: not applicable  1               0
rules: not run         0               1
messages: attempted    12              12
messages: confirmed    8               8
messages: unknown      0               0
messages: delivered    16              16
messages: duplicated   4               4
messages: lost         0               0
run: time              2s              20s

good: A good one.
claims: fanout, TTL

other: no description
claims: nothing
FAIL ack/two
    violated: What ack/two says <b>must</b> hold.
    got 2 & not 1
    goroutines:
    1 in
      main.main (main.go:1)
    note: It acks <twice>.
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestMatrixMarkdown(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	const want = `| rules | good | other |
|---|---|---|
| ack | 2 pass | **1 fail**, 1 not claimed |
| limit | 1 pass | 1 refused |
| durable | 1 not applicable | 1 not run |
| messages confirmed | 8 | 8 |
| of them lost | 0 | 0 |
`
	if b.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestMatrixJSONComesBack(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Matrix
	if err := json.Unmarshal(b.Bytes(), &back); err != nil || !reflect.DeepEqual(back, sample()) {
		t.Errorf("%v, got %+v", err, back)
	}
	b.Reset()
	if err := sample()[0].WriteJSON(&b); err != nil || !strings.Contains(b.String(), `"outcome": "not applicable"`) {
		t.Errorf("%v, got %s", err, b.String())
	}
}

func TestReportText(t *testing.T) {
	var b bytes.Buffer
	r := sample()[1]
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"not claimed     ack/one  0s\n    not claimed: fair dispatch\n",
		"fail            ack/two  0s\n    violated: What ack/two says <b>must</b> hold.\n    got 2 & not 1\n",
		"other: 0 passed, 1 failed, 1 refused, 1 not claimed, 0 not applicable, in 20s; messages: 12 attempted, 8 confirmed, 16 delivered, 4 duplicated, 0 lost; 1 were not run\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in:\n%s", want, b.String())
		}
	}
}

// TestPage holds what the page promises: each rule has a cell for each adapter, each
// outcome its symbol and its word, each failure its place, and it needs nothing else.
func TestPage(t *testing.T) {
	m := sample()
	var b bytes.Buffer
	if err := m.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	html := b.String()
	if found := regexp.MustCompile(`<script|<link|<img|<b>must|<twice>|https?://|@import|url\(`).FindString(html); found != "" {
		t.Errorf("there is %q on the page", found)
	}
	_, rules, _ := strings.Cut(html, `<h2 id="rules">`)
	rules, failures, _ := strings.Cut(rules, `<h2 id="failures">`)
	if got, want := strings.Count(rules, "<td "), len(m[0].Results)*len(m); got != want {
		t.Errorf("%d cells, want %d", got, want)
	}
	for _, r := range m {
		for _, result := range r.Results {
			mark := marks[result.Outcome]
			cell := regexp.MustCompile(fmt.Sprintf(`class="%s" data-label="%s"><span class="word"><span class="symbol" aria-hidden="true">%s</span> (<a href="#[^"]+">)?%s<`,
				strings.ReplaceAll(string(result.Outcome), " ", "-"), r.Adapter, regexp.QuoteMeta(mark.symbol), result.Outcome))
			if !cell.MatchString(rules) {
				t.Errorf("no cell of %s says %s", r.Adapter, result.Outcome)
			}
			if !strings.Contains(rules, "What "+result.ID+" says &lt;b&gt;must&lt;/b&gt; hold.") {
				t.Errorf("the rule %s is not there", result.ID)
			}
		}
	}
	links := regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(rules, -1)
	if len(links) != 1 || !strings.Contains(failures, `id="`+links[0][1]+`"`) {
		t.Errorf("the failures' links are %q", links)
	}
	for _, want := range []string{"Violated: What ack/two", "It acks &lt;twice&gt;.", "got 2 &amp; not 1", "None: good.", "other: 1 of 4"} {
		if !strings.Contains(failures, want) {
			t.Errorf("%q is not among the failures", want)
		}
	}
	if strings.Contains(html, "of no failure") {
		t.Error("there is a note on the page that explains no failure")
	}
	for _, want := range []string{`<html lang="en">`, `name="viewport"`, "2 January 2026", "Claims: nothing.", ">TTL<", ">restart<", ">20s<"} {
		if !strings.Contains(html, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
}

// TestPageOfOneReport is what the author of an adapter looks at.
func TestPageOfOneReport(t *testing.T) {
	var b bytes.Buffer
	r := sample()[0]
	if err := r.WriteHTML(&b); err != nil || !strings.Contains(b.String(), "by 1 adapter, run on") {
		t.Errorf("%v, got %s", err, b.String())
	}
}

func TestEveryOutcomeHasItsMark(t *testing.T) {
	var symbols []string
	for _, o := range allOutcomes {
		mark := marks[o]
		if mark.symbol == "" || mark.meaning == "" || slices.Contains(symbols, mark.symbol) {
			t.Errorf("%s has %+v", o, mark)
		}
		symbols = append(symbols, mark.symbol)
	}
	if len(marks) != len(allOutcomes) {
		t.Errorf("%d marks for %d outcomes", len(marks), len(allOutcomes))
	}
}
