package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/topology"
)

func topologyCommands() []command {
	return []command{topologyPlanCommand, topologyDiffCommand, topologyApplyCommand, topologyVerifyCommand, topologyMigrateCommand}
}

const topologyFiles = `
FILE is what an application declares, as topology.Of has it, in JSON; - is standard input. Several
are taken together. -earlier names what was declared once: what of that is still there is undeclared.`

var topologyPlanCommand = command{
	name: "topology plan", args: "FILE...", short: "say what apply would do, and what it would leave", long: topologyFiles,
	setup: compareTopology(func(i *invocation, r topology.Report) error { return i.showReport(r, planLine) }),
}

var topologyDiffCommand = command{
	name: "topology diff", args: "FILE...", short: "say how the broker differs from what is declared", long: topologyFiles,
	setup: compareTopology(func(i *invocation, r topology.Report) error {
		return i.showReport(r, topology.Finding.String)
	}),
}

var topologyVerifyCommand = command{
	name: "topology verify", args: "FILE...", short: "fail, with exit code 3, if the broker differs from what is declared",
	long: topologyFiles + `
The exit code is 1 if something that is declared could not be looked at, as bindings on RabbitMQ
without management= in the URL.`,
	setup: compareTopology(func(i *invocation, r topology.Report) error {
		if err := i.showReport(r, topology.Finding.String); err != nil {
			return err
		}
		switch {
		case !r.OK():
			return fmt.Errorf("%w: %d things differ from what is declared", errDiffers, len(r.Findings))
		case r.Partial:
			return errors.New("it is not known whether all is as declared: see what was not looked at; on RabbitMQ that takes management= in the URL")
		}
		return nil
	}),
}

var topologyApplyCommand = command{
	name: "topology apply", args: "FILE...", short: "create what is declared and missing",
	long: topologyFiles + `
Nothing is changed or deleted, but for -prune: that removes bindings that nobody declares any more,
and such queues if they have neither messages nor consumers.`,
	setup: func(flags *flag.FlagSet) action {
		var earlier repeated
		flags.Var(&earlier, "earlier", "what was declared once: another `FILE`; may be repeated")
		prune := flags.Bool("prune", false, "remove what nobody declares any more")
		return func(ctx context.Context, i *invocation) error {
			return i.withTopology(ctx, i.args, earlier, func(d adapters.Driver, t topology.Topology, old []topology.Topology) error {
				before, err := t.Check(ctx, d, old...)
				if err != nil {
					return err
				}
				err = t.Apply(ctx, d)
				if *prune && err == nil {
					err = t.Prune(ctx, d, before)
				}
				if err != nil {
					return err
				}
				done := topology.Report{Findings: []topology.Finding{}, Unchecked: before.Unchecked, Partial: before.Partial}
				for _, f := range before.Findings {
					if f.State == topology.Missing || *prune && f.State == topology.Undeclared {
						done.Findings = append(done.Findings, f)
					}
				}
				return i.showReport(done, appliedLine)
			})
		}
	},
}

var topologyMigrateCommand = command{
	name: "topology migrate", args: "QUEUE FILE...", short: "move a queue to the properties that are declared, with what is in it",
	long: `
The queue of a work queue is moved in three calls: with -prepare; then, once all who publish to it
have migrating=QUEUE in their URLs and its workers are stopped, without; and with -finish once
nobody has that in the URL any more. That of a group takes one, with its members stopped. If it is
interrupted, call it again. See docs/topology.md.`,
	setup: func(flags *flag.FlagSet) action {
		prepare := flags.Bool("prepare", false, "make the exchange over which those publish whose URL has migrating=QUEUE")
		finish := flags.Bool("finish", false, "remove that exchange")
		return func(ctx context.Context, i *invocation) error {
			if *prepare && *finish {
				return usagef("-prepare or -finish, not both")
			}
			return i.withTopology(ctx, i.args[1:], nil, func(d adapters.Driver, t topology.Topology, _ []topology.Topology) error {
				switch queue := i.args[0]; {
				case *prepare:
					return t.Prepare(ctx, d, queue)
				case *finish:
					return t.Finish(ctx, d, queue)
				default:
					return t.Migrate(ctx, d, queue, func(step string) { i.note("%s", safe(step, 400)) })
				}
			})
		}
	},
}

// compareTopology is a command that shows a report.
func compareTopology(show func(*invocation, topology.Report) error) func(*flag.FlagSet) action {
	return func(flags *flag.FlagSet) action {
		var earlier repeated
		flags.Var(&earlier, "earlier", "what was declared once: another `FILE`; may be repeated")
		return func(ctx context.Context, i *invocation) error {
			return i.withTopology(ctx, i.args, earlier, func(d adapters.Driver, t topology.Topology, old []topology.Topology) error {
				r, err := t.Check(ctx, d, old...)
				if err != nil {
					return err
				}
				return show(i, r)
			})
		}
	}
}

// withTopology reads the files and connects to the broker.
func (i *invocation) withTopology(ctx context.Context, files, earlier []string, f func(adapters.Driver, topology.Topology, []topology.Topology) error) error {
	all, err := i.readTopologies(ctx, files)
	if err != nil {
		return err
	}
	old, err := i.readTopologies(ctx, earlier)
	if err != nil {
		return err
	}
	t, err := topology.Merge(all...)
	if err != nil {
		return err
	}
	d, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer closeDriver(ctx, d) //nolint:errcheck // what it was for is done
	return f(d, t, old)
}

// maxTopology is more than an application declares, in bytes.
const maxTopology = 64 << 20

func (i *invocation) readTopologies(ctx context.Context, files []string) (all []topology.Topology, err error) {
	for _, name := range files {
		var in io.Reader
		if name == "-" {
			in = i.input(ctx)
		} else {
			file, err := os.Open(name)
			if err != nil {
				return nil, err
			}
			defer file.Close() //nolint:errcheck // it only is read from
			in = file
		}
		t, err := topology.Read(io.LimitReader(in, maxTopology))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, t)
	}
	return all, nil
}

// showReport writes a line for each finding, and what could not be looked at.
func (i *invocation) showReport(r topology.Report, line func(topology.Finding) string) error {
	if i.json {
		return i.object(r)
	}
	for _, f := range r.Findings {
		code := map[topology.State]string{topology.Missing: colourGood, topology.Differs: colourBad, topology.Undeclared: colourDim}[f.State]
		if _, err := fmt.Fprintln(i.stdout, i.colour(code, safe(line(f), 1000))); err != nil {
			return err
		}
	}
	for _, u := range r.Unchecked {
		i.note("Note: not looked at: %s.", safe(u, 1000))
	}
	if r.OK() && !r.Partial {
		i.note("Nothing to do.")
	}
	return nil
}

// planLine says what apply would do about a finding.
func planLine(f topology.Finding) string {
	does := map[topology.State]string{
		topology.Missing: "create ", topology.Differs: "leave  ", topology.Undeclared: "leave  ",
	}[f.State]
	why := map[topology.State]string{
		topology.Differs: " (motif topology migrate)", topology.Undeclared: " (apply -prune)",
	}[f.State]
	return does + f.String() + why
}

func appliedLine(f topology.Finding) string {
	if f.State == topology.Undeclared {
		return "removed " + f.String()
	}
	return "created " + f.String()
}
