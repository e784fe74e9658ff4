package main

import (
	"context"
	"errors"
	"fmt"
)

var errNegative = errors.New("negative")

// fib is the function, slow on purpose.
func fib(ctx context.Context, n int) (int, error) {
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err() // nobody waits for the answer any more
	case n < 0:
		return 0, fmt.Errorf("fib(%d): %w", n, errNegative)
	case n < 2:
		return n, nil
	}
	a, err := fib(ctx, n-1)
	if err != nil {
		return 0, err
	}
	b, err := fib(ctx, n-2)
	return a + b, err
}
