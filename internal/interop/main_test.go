// Package interop has no code, only the tests that package amqp gets along
// with those who speak AMQP in their own ways: watermill-amqp, Python's pika,
// and watermill's test suite through the door.
package interop

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// restartArg makes this program ask another for a restart of its broker, at
// the URL that comes next.
const restartArg = "-restart-broker"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == restartArg {
		if err := askForRestart(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	amqptest.Main(m,
		// It leaves a goroutine that reads from a channel that nobody closes.
		"github.com/ThreeDotsLabs/watermill/pubsub/tests.TestReconnect.func2")
}

func askForRestart(url string) error {
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	text, _ := io.ReadAll(answer.Body)
	return fmt.Errorf("%s: %s", answer.Status, text)
}
