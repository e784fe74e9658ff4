package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// screen prints lines, and below them how it goes: a line that is rewritten in
// place on a terminal, and a line a second elsewhere.
type screen struct {
	out      io.Writer
	terminal bool

	mu   sync.Mutex
	last string // the line at the bottom of the terminal, without a newline
}

func newScreen(out io.Writer) *screen {
	s := &screen{out: out}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		s.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return s
}

// say prints a line, above the one at the bottom.
func (s *screen) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.print(fmt.Sprintf(format, args...)+"\n", s.last)
}

// print replaces the line at the bottom by text and another last line.
func (s *screen) print(text, last string) {
	if s.last != "" {
		text = "\r\x1b[K" + text
	}
	s.last = last
	fmt.Fprint(s.out, text+last)
}

// show prints line as the one at the bottom, on a terminal, or else as any other.
func (s *screen) show(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.terminal {
		s.print("", fmt.Sprintf("%.79s", line)) // one that wraps could not be erased
	} else {
		s.print(line+"\n", "")
	}
}

// follow shows how it goes until stop is called, and then once more.
func (s *screen) follow(line func() string) (stop func()) {
	every := time.Second
	if s.terminal {
		every = 50 * time.Millisecond
	}
	quit := make(chan struct{})
	var showing sync.WaitGroup
	showing.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				s.show(line())
			case <-quit:
				return
			}
		}
	})
	return func() {
		close(quit)
		showing.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.print(line()+"\n", "")
	}
}
