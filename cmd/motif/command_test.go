package main

import (
	"bytes"
	"flag"
	"io"
	"slices"
	"strings"
	"testing"
)

// motif runs the program, and returns what it wrote.
func motif(t testing.TB, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	t.Setenv("MOTIF_URL", "")
	t.Setenv("AMQP_URL", "")
	for _, c := range []struct {
		args string
		code int
		want string // in what it writes
	}{
		{"", exitOK, "motif help"},
		{"-h", exitOK, "motif help"},
		{"help help", exitOK, "motif help [flags] [COMMAND...]"},
		{"help -h", exitOK, "-url URL"},
		{"nonsense", exitUsage, `no command "nonsense"`},
		{"help nonsense", exitUsage, `no command "nonsense"`},
		{"help -nonsense", exitUsage, "-nonsense"},
	} {
		code, out, errs := motif(t, "", strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("motif %s: exit %d, want %d and %q in: %s%s", c.args, code, c.code, c.want, out, errs)
		}
	}
}

func TestFlagsStandAnywhere(t *testing.T) {
	for _, args := range []string{"-n 2 a b", "a -n 2 b", "a b -n 2", "a b --n=2"} {
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		n := flags.Int("n", 0, "")
		rest, err := parse(flags, strings.Fields(args))
		if err != nil || *n != 2 || !slices.Equal(rest, []string{"a", "b"}) {
			t.Errorf("%q: %d, %q, %v", args, *n, rest, err)
		}
	}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	if rest, err := parse(flags, []string{"a", "--", "-n", "--"}); err != nil || !slices.Equal(rest, []string{"a", "-n", "--"}) {
		t.Errorf("behind --: %q, %v", rest, err)
	}
}

func TestArgumentsAreCounted(t *testing.T) {
	for _, c := range []struct {
		args  string
		given int
		ok    bool
	}{{"", 0, true}, {"", 1, false}, {"A", 0, false}, {"A [B]", 1, true}, {"A [B]", 2, true}, {"A [B]", 3, false}, {"A [B...]", 9, true}, {"A...", 0, false}} {
		cmd := command{args: c.args}
		if err := cmd.checkArgs(make([]string, c.given)); (err == nil) != c.ok {
			t.Errorf("%d arguments for %q: %v", c.given, c.args, err)
		}
	}
}
