// News gives each reader the items whose key matches one of its patterns.
//
//	go run ./examples/news
//
//	go run ./examples/news -broker amqp://guest:guest@localhost -role read 'usa.#' '*.weather'
//	go run ./examples/news -broker amqp://guest:guest@localhost -role publish
//
// A key is words separated by dots. In a pattern * stands for one word, and # for
// any number of them, including none: usa.# also matches usa itself, and *.weather
// does not match europe.north.weather. A reader with several patterns gets one
// copy of an item, even if several of them match.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
)

// Item is what is published.
type Item struct{ Headline string }

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var opts demo.Options
	flags := demo.Flags("news", &opts, "all", "read", "publish")
	if err := flags.Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	news := patterns.NewTopic[Item](bus, "news")
	switch opts.Role {
	case "read":
		sub, err := read(ctx, news, flags.Args(), func(key string) { fmt.Fprintln(out, key) })
		if err != nil {
			return err
		}
		return sub.Wait() // until Ctrl-C
	case "publish":
		return publish(ctx, news)
	}
	return all(ctx, news, out)
}

func all(ctx context.Context, news *patterns.Topic[Item], out io.Writer) error {
	readers := []struct {
		patterns []string
		expect   int
	}{
		{[]string{"usa.#"}, 3},
		{[]string{"*.weather"}, 2},
		{[]string{"#.ne"}, 3},
		{[]string{"usa.#", "*.weather", "#.ne"}, 6},
	}
	seen := make([]chan string, len(readers))
	for i, r := range readers {
		seen[i] = make(chan string, 10)
		if _, err := read(ctx, news, r.patterns, func(key string) { seen[i] <- key }); err != nil {
			return err
		}
	}
	if err := publish(ctx, news); err != nil {
		return err
	}
	for i, r := range readers {
		keys, err := demo.Collect(ctx, seen[i], r.expect)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%-22s got: %s\n", strings.Join(r.patterns, " "), strings.Join(keys, ", "))
	}
	return nil
}

func read(ctx context.Context, news *patterns.Topic[Item], keys []string, show func(key string)) (*patterns.Subscription, error) {
	return news.Subscribe(ctx, keys, func(ctx context.Context, _ Item) error {
		d, _ := patterns.DeliveryFrom(ctx)
		show(d.Key)
		return nil
	})
}

func publish(ctx context.Context, news *patterns.Topic[Item]) error {
	keys := []string{
		"usa", "usa.weather", "usa.ne", "europe.weather", "europe.north.weather", "europe.ne", "ne", "asia.sports",
	}
	for _, key := range keys {
		if err := news.Publish(ctx, key, Item{Headline: "what happened at " + key}); err != nil {
			return err
		}
	}
	return nil
}
