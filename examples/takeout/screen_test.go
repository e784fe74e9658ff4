package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestScreenRewritesItsLastLineOnATerminal(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, terminal: true}
	s.say("a %d", 1)
	s.show("0%")
	s.show("50%")
	s.say("b")
	s.show(strings.Repeat("ü", 100))
	want := "a 1\n" + "0%" + "\r\x1b[K50%" + "\r\x1b[Kb\n50%" + "\r\x1b[K" + strings.Repeat("ü", 79)
	if out.String() != want {
		t.Errorf("printed %q, want %q", &out, want)
	}
}

func TestFollow(t *testing.T) {
	for terminal, want := range map[bool]string{
		false: "1\nhello\n2\n3\n",
		true:  "1\r\x1b[K2\r\x1b[K3",
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			s := &screen{out: &out, terminal: terminal}
			n := 0
			stop := s.follow(func() string { n++; return fmt.Sprint(n) })
			time.Sleep(1500 * time.Millisecond)
			s.say("hello")
			time.Sleep(time.Second)
			stop()
			time.Sleep(time.Minute)
			if !strings.HasPrefix(out.String(), want) {
				t.Errorf("terminal %v: printed %q", terminal, &out)
			}
			if last := fmt.Sprintf("%d\n", n); !strings.HasSuffix(out.String(), last) || s.last != "" {
				t.Errorf("terminal %v: does not end with %q: %q", terminal, last, &out)
			}
		})
	}
}

func TestAFileIsNoTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if newScreen(f).terminal || newScreen(new(bytes.Buffer)).terminal {
		t.Error("taken for a terminal")
	}
}
