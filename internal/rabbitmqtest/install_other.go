//go:build !linux

package rabbitmqtest

import (
	"context"
	"io"
)

// Install says in its error what to install, if there is no RabbitMQ.
func Install(context.Context, io.Writer) error {
	_, err := findPrograms()
	return err
}
