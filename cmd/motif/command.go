package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// A command is a row of the table of commands.
type command struct {
	name  string // the words that call it: "dead list"
	args  string // its arguments, as its usage shows them: "QUEUE [ID...]"
	short string // what it does, in one line without a full stop
	long  string // what else there is to say, for its own help

	// setup declares the command's own flags and returns what runs once they are parsed.
	setup func(*flag.FlagSet) action
}

// An action is what a command does. An error is shown as a sentence, and decides the exit code.
type action func(context.Context, *invocation) error

// What the program exits with.
const (
	exitOK          = 0
	exitFailed      = 1   // it could not be done
	exitUsage       = 2   // the command line is wrong, and nothing was done
	exitDiffers     = 3   // it was done, and its answer is no: see errDiffers
	exitInterrupted = 130 // it was interrupted by Ctrl-C or SIGTERM
)

// errDiffers ends a command whose answer is no: what it was to check is not so. Its text is shown
// like any other error.
var errDiffers = errors.New("not as it should be")

// usageError is what is wrong with a command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// commands returns the table, in the order in which help lists them. It is a function because help
// and completion, which are in it, read it.
func commands() []command {
	return slices.Concat(
		deadCommands(),
		messageCommands(),
		topologyCommands(),
		helpCommands(),
	)
}

// run is the program without its process.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	i := &invocation{stdin: stdin, stdout: stdout, stderr: stderr}
	err := i.run(ctx, args)
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		i.complain(err)
		return exitUsage
	case ctx.Err() != nil:
		i.complain(fmt.Errorf("interrupted: %w", err))
		return exitInterrupted
	}
	i.complain(err)
	if errors.Is(err, errDiffers) {
		return exitDiffers
	}
	return exitFailed
}

func (i *invocation) run(ctx context.Context, args []string) error {
	cmd, args, err := find(args)
	if err != nil {
		return err
	}
	flags := flag.NewFlagSet("motif "+cmd.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // usage is shown in our own words
	act := cmd.setup(flags)
	i.globalFlags(flags)
	i.args, err = parse(flags, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return writeHelp(i.stdout, cmd)
	case err != nil:
		return usagef("%v; motif %s -h lists the flags", err, cmd.name)
	}
	if err := cmd.checkArgs(i.args); err != nil {
		return err
	}
	if i.url == "" {
		i.url = os.Getenv("MOTIF_URL")
	}
	if i.url == "" {
		i.url = os.Getenv("AMQP_URL")
	}
	return act(ctx, i)
}

// find returns the command that args begin with, the one of the most words, and what is left.
func find(args []string) (command, []string, error) {
	if len(args) == 0 || slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
		args = []string{"help"}
	}
	var found command
	words := 0
	for _, c := range commands() {
		name := strings.Fields(c.name)
		if len(name) > words && len(args) >= len(name) && slices.Equal(name, args[:len(name)]) {
			found, words = c, len(name)
		}
	}
	if words > 0 {
		return found, args[words:], nil
	}
	var members []string
	for _, c := range commands() {
		if rest, ok := strings.CutPrefix(c.name, args[0]+" "); ok {
			members = append(members, rest)
		}
	}
	switch {
	case members == nil:
		return found, nil, usagef("there is no command %q; motif help lists them", args[0])
	case len(args) == 1 || strings.HasPrefix(args[1], "-"):
		return found, nil, usagef("motif %s needs one of: %s", args[0], strings.Join(members, ", "))
	}
	return found, nil, usagef("there is no command %q; motif %s has: %s", args[0]+" "+args[1], args[0], strings.Join(members, ", "))
}

// parse parses flags that may stand before, between and behind the other arguments, which it
// returns. All behind "--" are arguments.
func parse(flags *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		left := flags.Args()
		read := args[:len(args)-len(left)]
		if len(left) == 0 || len(read) > 0 && read[len(read)-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

// checkArgs checks how many there are: those in brackets may be left out, and "..." is any number.
func (c *command) checkArgs(args []string) error {
	least, most := 0, 0
	for _, word := range strings.Fields(c.args) {
		if most++; !strings.HasPrefix(word, "[") {
			least++
		}
		if strings.HasSuffix(strings.TrimSuffix(word, "]"), "...") {
			most = 1 << 20
		}
	}
	switch {
	case len(args) < least:
		return usagef("motif %s needs more arguments: %s", c.name, c.usage())
	case len(args) > most:
		return usagef("motif %s takes no argument %q: %s", c.name, args[most], c.usage())
	}
	return nil
}

// usage returns how the command is called.
func (c *command) usage() string {
	return strings.TrimSpace("motif " + c.name + " " + strings.TrimSpace("[flags] "+c.args))
}
