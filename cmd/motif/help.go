package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

func helpCommands() []command {
	return []command{{
		name: "help", args: "[COMMAND...]", short: "say what commands there are, or how one is used",
		setup: func(*flag.FlagSet) action { return help },
	}, completionCommand()}
}

func help(_ context.Context, i *invocation) error {
	if len(i.args) > 0 {
		cmd, rest, err := find(i.args)
		if err == nil && len(rest) > 0 {
			err = usagef("there is no command %q", strings.Join(i.args, " "))
		}
		if err != nil {
			return err
		}
		return writeHelp(i.stdout, cmd)
	}
	fmt.Fprint(i.stdout, "motif looks after the queues of a broker.\n\n")
	w := tabwriter.NewWriter(i.stdout, 0, 0, 2, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(w, "  motif %s\t%s\n", strings.TrimSpace(c.name+" "+c.args), c.short)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(i.stdout, `
QUEUE of a dead command is the one that holds the letters: those of orders are in orders.dead.

The broker is that of -url, or of MOTIF_URL or AMQP_URL in the environment. -json writes JSON, an
object a line. motif COMMAND -h says more.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done and the answer is no, 130 interrupted.
`)
	return err
}

// writeHelp says how a command is used.
func writeHelp(w io.Writer, c command) error {
	fmt.Fprintf(w, "%s: %s.\n", c.usage(), c.short)
	if c.long != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(c.long))
	}
	fmt.Fprintln(w, "\nFlags:")
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	c.setup(flags)
	new(invocation).globalFlags(flags)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	flags.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
			usage += " (" + f.DefValue + " without it)"
		}
		fmt.Fprintf(table, "  -%s\t%s\n", strings.TrimSpace(f.Name+" "+value), usage)
	})
	return table.Flush()
}
