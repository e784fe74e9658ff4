package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/deadletters"
)

var exportCommand = command{
	name: "dead export", args: "QUEUE [ID...]", short: "write dead letters to standard output, one a line, losing nothing",
	long: `
Writes each letter as a line of JSON that motif dead import reads. Text is text in it, so that it can
be read and edited, and what is no UTF-8 is in base64. The letters stay in QUEUE. Headers that another
client sent as numbers or tables are written as text.`,
	setup: func(flags *flag.FlagSet) action {
		var f letterFlags
		f.declare(flags)
		return func(ctx context.Context, i *invocation) error { return i.export(ctx, &f) }
	},
}

func (i *invocation) export(ctx context.Context, f *letterFlags) error {
	filter, err := f.filter(i.args[1:])
	if err != nil {
		return err
	}
	return i.withQueue(ctx, func(q *deadletters.Queue) error {
		look, err := q.List(ctx, filter, adapters.MaxBrowse)
		if err != nil {
			return err
		}
		for n := range look.Letters {
			if err := i.object(deadletters.NewRecord(&look.Letters[n])); err != nil {
				return err
			}
		}
		i.note("%d letters written.", len(look.Letters))
		if look.Seen > 0 {
			i.noteLook(q)
		}
		if look.Unseen > 0 {
			return fmt.Errorf("%d letters behind them were not written, which are more than one look can take", look.Unseen)
		}
		return i.missing(look)
	})
}

var importCommand = command{
	name: "dead import", args: "QUEUE", short: "put letters that were exported into a queue, from standard input",
	long: `
Puts each letter into QUEUE as it was when motif dead export wrote it, and waits for the broker to
confirm it. It stops at the first line that cannot be imported, and says which; what comes before that
line is in QUEUE. The letter of that line may be there too if the broker did not answer, and then it
says so. QUEUE has to exist: it may be the one the letters come from, or any other.`,
	setup: func(*flag.FlagSet) action { return importLetters },
}

func importLetters(ctx context.Context, i *invocation) error {
	return i.withQueue(ctx, func(q *deadletters.Queue) error {
		lines := json.NewDecoder(i.input(ctx))
		for n := 1; ; n++ {
			var r deadletters.Record
			err := lines.Decode(&r)
			if errors.Is(err, io.EOF) {
				if i.json {
					return i.object(map[string]int{"imported": n - 1})
				}
				_, err = fmt.Fprintf(i.stdout, "%d letters imported.\n", n-1)
				return err
			}
			if err == nil {
				err = q.Import(ctx, &r)
			}
			switch {
			case errors.Is(err, adapters.ErrUnconfirmed):
				return fmt.Errorf("letter %d may have been imported, and the %d before it were: %w", n, n-1, err)
			case err != nil:
				return fmt.Errorf("letter %d was not imported, the %d before it were: %w", n, n-1, err)
			}
		}
	})
}
