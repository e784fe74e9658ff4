package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/motifmq/motif/adapters"
)

var webCommand = command{
	name: "web", args: "[QUEUE...]", short: "serve a page that shows queues and dead letters, and may replay and drop them",
	long: `
Writes the address of the page, with a key that is new each time: who has it can do what the page can,
with the rights of the broker's user. The page only looks, unless -write lets it replay and drop.
It shows these queues, or all that the user may see, as motif queues does. Ctrl-C ends it.`,
	setup: func(flags *flag.FlagSet) action {
		var f webFlags
		flags.StringVar(&f.listen, "listen", "127.0.0.1:8025", "serve at `HOST:PORT`; port 0 is any that is free")
		flags.BoolVar(&f.anywhere, "anywhere", false, "let -listen be an address that other machines reach, without TLS")
		flags.BoolVar(&f.write, "write", false, "let the page replay and drop letters")
		return func(ctx context.Context, i *invocation) error { return i.web(ctx, f) }
	},
}

type webFlags struct {
	listen   string
	anywhere bool
	write    bool
}

// Limits of the page's server.
const (
	webReadTimeout  = 10 * time.Second
	webDepthTimeout = 10 * time.Second // for the broker to say what its queues hold
	webLookTimeout  = 30 * time.Second // for a look at letters
	webWriteTimeout = 2 * webLookTimeout
	webIdleTimeout  = 2 * time.Minute
	webMaxHeader    = 16 << 10
)

func (i *invocation) web(ctx context.Context, f webFlags) (err error) {
	host, _, err := net.SplitHostPort(f.listen)
	if err != nil {
		return usagef("-listen takes HOST:PORT: %v", err)
	}
	out := &sync.Mutex{}
	i.stdout, i.stderr = &lockedWriter{out, i.stdout}, &lockedWriter{out, i.stderr}
	d, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeDriver(ctx, d)) }()
	if _, _, err := i.findQueues(ctx, d); err != nil { // rather now than on the page
		return explainError(err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return err
	}
	defer listener.Close() //nolint:errcheck // the server has, if it began
	address, ok := listener.Addr().(*net.TCPAddr)
	if !f.anywhere && (!ok || !address.IP.IsLoopback()) {
		return usagef("-listen %s is reached from other machines, over which the page would be readable; -anywhere allows it", f.listen)
	}
	if host == "" && ok {
		host = address.IP.String()
	}
	page := &webPage{i: i, driver: d, write: f.write, host: host, key: rand.Text()}
	if err := i.announce(page, listener.Addr()); err != nil {
		return err
	}
	return page.serve(ctx, listener)
}

// announce writes the address of the page.
func (i *invocation) announce(p *webPage, at net.Addr) error {
	_, port, err := net.SplitHostPort(at.String())
	if err != nil {
		return err
	}
	// The key stands behind a #: browsers do not send that part, and it is in no log of requests.
	url := "http://" + net.JoinHostPort(p.host, port) + "/#" + p.key
	if !p.write {
		i.note("The page only looks; with -write it may replay and drop, too. Ctrl-C ends it.")
	}
	if i.json {
		return i.object(struct {
			URL   string `json:"url"`
			Write bool   `json:"write"`
		}{url, p.write})
	}
	_, err = fmt.Fprintln(i.stdout, url)
	return err
}

// serve serves the page until ctx ends, and then waits until its runs have ended in order.
func (p *webPage) serve(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer p.runs.wait()
	defer cancel()
	server := &http.Server{
		Handler: p.handler(ctx), BaseContext: func(net.Listener) context.Context { return ctx },
		ReadTimeout: webReadTimeout, WriteTimeout: webWriteTimeout, IdleTimeout: webIdleTimeout, MaxHeaderBytes: webMaxHeader,
		ErrorLog: log.New(p.i.stderr, "motif: ", 0),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end, stop := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer stop()
	if err := server.Shutdown(end); err != nil {
		return errors.Join(err, server.Close())
	}
	return nil
}

// webPage is the page and what answers it.
type webPage struct {
	i      *invocation
	driver adapters.Driver
	write  bool
	host   string // as -listen has it
	key    string // which requests have to show
	queues webQueues
	runs   webRuns
}
