// Fib calls a function that runs in another process, and gets its result.
//
//	go run ./examples/fib
//
//	go run ./examples/fib -broker amqp://guest:guest@localhost -role serve   (as often as you like)
//	go run ./examples/fib -broker amqp://guest:guest@localhost -role call
//
// Calls are shared among the servers, and many may be in flight on one bus.
// Without a server a call fails at once, with ErrNoServer. An error of the function
// comes back as a *RemoteError; errors.Is finds in it the error to which both sides
// gave the same code with WithErrorCode. When a caller gives up, the handler's ctx
// ends, wherever it runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/patterns"
)

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	opts := demo.Options{Needs: adapters.CanReply}
	if err := demo.Flags("fib", &opts, "all", "serve", "call").Parse(args); err != nil {
		return err
	}
	bus, closeBus, err := opts.Open(ctx, patterns.WithErrorCode("negative", errNegative))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }()

	numbers := patterns.NewRPC[int, int](bus, "fib")
	switch opts.Role {
	case "serve":
		server, err := numbers.Serve(ctx, fib)
		if err != nil {
			return err
		}
		return server.Wait() // until Ctrl-C
	case "call":
		return call(ctx, numbers, out)
	}

	if _, err := numbers.Call(ctx, 30); !errors.Is(err, patterns.ErrNoServer) {
		return errors.Join(errors.New("calling nobody was not ErrNoServer"), err)
	}
	fmt.Fprintln(out, "no server yet:", patterns.ErrNoServer)
	for range 3 {
		if _, err := numbers.Serve(ctx, fib); err != nil {
			return err
		}
	}
	if err := call(ctx, numbers, out); err != nil {
		return err
	}
	return giveUp(ctx, bus, out)
}

func call(ctx context.Context, numbers *patterns.RPC[int, int], out io.Writer) error {
	n, err := numbers.Call(ctx, 30)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "fib(30) =", n)

	var answers [20]int
	var errs [20]error
	var calls sync.WaitGroup
	for i := range answers {
		calls.Go(func() { answers[i], errs[i] = numbers.Call(ctx, i) })
	}
	calls.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	fmt.Fprintln(out, "20 calls at once:", answers)

	_, err = numbers.Call(ctx, -1)
	if !errors.Is(err, errNegative) {
		return errors.Join(errors.New("fib(-1) was not errNegative"), err)
	}
	fmt.Fprintln(out, err)
	return nil
}

// giveUp makes a call that would never end, and gives it up once it runs.
func giveUp(ctx context.Context, bus *patterns.Bus, out io.Writer) error {
	callCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	forever := patterns.NewRPC[int, int](bus, "fib.forever")
	_, err := forever.Serve(ctx, func(ctx context.Context, n int) (int, error) {
		cancel() // the caller loses patience
		answer, err := fib(ctx, n)
		ended <- err
		return answer, err
	})
	if err != nil {
		return err
	}
	if _, err := forever.Call(callCtx, 1000); !errors.Is(err, context.Canceled) {
		return errors.Join(errors.New("giving up was not context.Canceled"), err)
	}
	fmt.Fprintln(out, "the caller gave up")
	if _, err := demo.Collect(ctx, ended, 1); err != nil {
		return err
	}
	fmt.Fprintln(out, "the server stopped working on it")
	return nil
}
