package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
)

func completionCommand() command {
	return command{
		name: "completion", args: "SHELL", short: "write a script with which bash or zsh completes commands and flags",
		long: `
For bash: source <(motif completion bash). For zsh: source <(motif completion zsh), after compinit.`,
		setup: func(*flag.FlagSet) action {
			return func(_ context.Context, i *invocation) error {
				script := bashScript
				switch i.args[0] {
				case "bash":
				case "zsh":
					script = "autoload -U +X bashcompinit && bashcompinit\n" + script
				default:
					return usagef("SHELL is bash or zsh, not %q", i.args[0])
				}
				_, err := fmt.Fprintf(i.stdout, script, completions())
				return err
			}
		},
	}
}

// completions returns what may follow which words, as the branches of a case in shell.
func completions() string {
	next := map[string][]string{}
	for _, c := range commands() {
		words := strings.Fields(c.name)
		for n, word := range words {
			if at := strings.Join(words[:n], " "); !slices.Contains(next[at], word) {
				next[at] = append(next[at], word)
			}
		}
		flags := flag.NewFlagSet("", flag.ContinueOnError)
		c.setup(flags)
		new(invocation).globalFlags(flags)
		flags.VisitAll(func(f *flag.Flag) { next[c.name] = append(next[c.name], "-"+f.Name) })
	}
	var b strings.Builder
	var names []string
	for name := range next {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { // the longest first: a command's before its group's
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		pattern := "'" + name + " '*"
		if name == "" {
			pattern = "*"
		}
		fmt.Fprintf(&b, "    %s) words='%s' ;;\n", pattern, strings.Join(next[name], " "))
	}
	return b.String()
}

const bashScript = `# Completion of motif, written by motif completion.
_motif() {
  local words
  case "${COMP_WORDS[*]:1:COMP_CWORD-1} " in
%s  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -F _motif motif
`
