package deadletters

import (
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/patterns"
)

func TestExplain(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name     string
		metadata message.Metadata
		returned int
		queue    string
		want     []string
	}{
		{"handler", message.Metadata{
			patterns.HeaderReason: "no spoon", patterns.HeaderQueue: "orders", patterns.HeaderAttempts: "5",
			patterns.HeaderDiedAt: "2026-11-28T09:00:00Z",
		}, 0, "orders.dead", []string{`in queue "orders" at 2026-11-28T09:00:00Z, 3h00m ago, at attempt 5: no spoon.`, `sends it to queue "orders"`}},
		{
			"worker lost",
			message.Metadata{patterns.HeaderReason: "its worker was lost 5 times", patterns.HeaderLosses: "5"},
			2, "q.dead",
			[]string{"lost 5 times while it was handled", "come back to this queue twice"},
		},
		{
			"expired",
			message.Metadata{headerDeaths: "orders expired 1", headerFirstQueue: "orders", headerFirstReason: "expired"},
			-1, "dlq",
			[]string{`in queue "orders", once: it waited for longer than its time to live`, "delivered from this queue before", `sends it to queue "orders"`},
		},
		{
			"several",
			message.Metadata{headerDeaths: "my, queue rejected 2, orders maxlen 1", headerFirstQueue: "orders", headerFirstReason: "maxlen"},
			0, "dlq",
			[]string{"a consumer rejected it", "the queue was full and dropped it", `died first in queue "orders"`},
		},
		{"delivery limit", message.Metadata{headerDeaths: "orders delivery_limit 1"}, 0, "dlq", []string{"delivery limit"}},
		{"nothing", nil, 0, "dlq", []string{"does not say why", "has to be told where"}},
		{"replayed", message.Metadata{HeaderReplay: "RUN", patterns.HeaderRepair: "no"}, 0, "q.dead", []string{"by run RUN", "could not repair it: no.", `queue "q"`}},
	} {
		l := Letter{Queue: c.queue}
		l.Message = message.NewMessage("a", nil)
		for name, value := range c.metadata {
			l.Message.Metadata[name] = value
		}
		l.Returned = c.returned
		text := strings.Join(l.Explain(now), "\n")
		for _, want := range c.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in:\n%s", c.name, want, text)
			}
		}
	}
}
