package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestCommandsArePage: the page about the command has each one, as help describes it, and no other.
func TestCommandsArePage(t *testing.T) {
	text, err := os.ReadFile("../../docs/command.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Commands\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := strings.Count(section, "| `motif ")
	for _, c := range commands() {
		row := fmt.Sprintf("| `motif %s` | %s |\n", strings.TrimSpace(c.name+" "+c.args), c.short)
		if !strings.Contains(section, row) {
			t.Errorf("docs/command.md has no row\n%s", row)
		}
		rows--
	}
	if rows != 0 {
		t.Errorf("docs/command.md has %d commands more than there are", rows)
	}
}
