//go:build !linux

package amqptest

import (
	"context"
	"errors"
	"io"
)

// Install says in its error what to install, if versions of RabbitMQ are missing:
// those given, else the one that MOTIF_RABBITMQ says, else all [Versions].
func Install(_ context.Context, _ io.Writer, versions ...string) error {
	var errs []error
	for _, version := range versionsOr(versions) {
		_, err := findPrograms(version)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
