package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
	"github.com/motifmq/motif/patterns"
)

func TestMain(m *testing.M) { amqptest.Main(m) }

const want = `POST /orders
  send orders
    process orders the kitchen is on fire
      cook pad thai
      retry orders
      settle orders
    process orders the kitchen is on fire
      cook pad thai
      retry orders
      settle orders
    process orders the kitchen is on fire
      cook pad thai
      dead-letter orders.dead
      settle orders
    process orders
      cook pad thai
      settle orders
motif_messages_sent_total{destination="orders",error="",operation="publish"} 1
motif_messages_sent_total{destination="orders",error="",operation="retry"} 2
motif_messages_sent_total{destination="orders.dead",error="",operation="dead-letter"} 1
motif_messages_settled_total{group="",result="acknowledged",source="orders"} 1
motif_messages_settled_total{group="",result="dead-lettered",source="orders"} 1
motif_messages_settled_total{group="",result="retried",source="orders"} 2
`

func TestObservability(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { check(t, "memory:", replay) })
}

// TestOnRabbitMQ: the trace goes on where the command, another process, sends the letter back.
func TestOnRabbitMQ(t *testing.T) {
	vhost := amqptest.Shared(t)
	command := filepath.Join(t.TempDir(), "motif")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", command, "github.com/motifmq/motif/cmd/motif").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	check(t, vhost.URL, func(ctx context.Context, _ *patterns.Bus) error {
		cmd := exec.CommandContext(ctx, command, "dead", "replay", "orders.dead", "-journal", "-")
		cmd.Env = append(os.Environ(), "MOTIF_URL="+vhost.URL)
		out, err := cmd.CombinedOutput()
		if err == nil && !strings.Contains(string(out), "1 letters sent") {
			err = fmt.Errorf("motif says %q", out)
		}
		return err
	})
}

func check(t *testing.T, broker string, replay func(context.Context, *patterns.Bus) error) {
	t.Helper()
	var out strings.Builder
	if err := run(t.Context(), broker, replay, &out); err != nil {
		t.Fatal(err)
	}
	if got := strings.ReplaceAll(out.String(), " \n", "\n"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
