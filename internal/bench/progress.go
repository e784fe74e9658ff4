package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
)

// onTerminal reports whether stderr is one, where a line can be written over.
var onTerminal = sync.OnceValue(func() bool {
	info, err := os.Stderr.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
})

// say shows how far it is: in one line that changes on a terminal, else in a
// line each.
func say(format string, args ...any) {
	line := strings.TrimSpace(fmt.Sprintf(format, args...))
	if onTerminal() {
		fmt.Fprintf(os.Stderr, "\r\033[K%s", line)
	} else {
		fmt.Fprintln(os.Stderr, line)
	}
}

// hush ends the line that say changes.
func hush() {
	if onTerminal() {
		fmt.Fprint(os.Stderr, "\r\033[K")
	}
}
