package main

import (
	"strings"
	"testing"
	"testing/synctest"
)

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
POST /redrive
  redrive orders
motif_messages_sent_total{destination="orders",error="",operation="publish"} 1
motif_messages_sent_total{destination="orders",error="",operation="redrive"} 1
motif_messages_sent_total{destination="orders",error="",operation="retry"} 2
motif_messages_sent_total{destination="orders.dead",error="",operation="dead-letter"} 1
motif_messages_settled_total{group="",result="acknowledged",source="orders"} 1
motif_messages_settled_total{group="",result="dead-lettered",source="orders"} 1
motif_messages_settled_total{group="",result="retried",source="orders"} 2
`

func TestObservability(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		if err := run(t.Context(), "memory:", &out); err != nil {
			t.Fatal(err)
		}
		if got := strings.ReplaceAll(out.String(), " \n", "\n"); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
}
