package onbrokers

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// testRoles runs each role in a process of its own, as the examples' comments
// show it. Those who listen or serve end by Ctrl-C.
func (p programs) testRoles(t *testing.T) {
	for _, c := range []struct {
		listener  string
		publisher string
		queues    int    // that the listener consumes
		heard     string // by the listener, in any order; "" = nothing is printed
		printed   string // by the publisher
	}{
		{"logs -role listen", "logs -role publish", 1, "1 starting\n2 ready\n3 busy\n4 stopping\n", ""},
		{
			"severity -role listen", "severity -role publish", 2,
			"file:   error: disk is full\nscreen: error: disk is full\nscreen: info: listening on :8080\nscreen: warning: disk is 90% full\n",
			"debug, mandatory: nobody asked for it, motif: unroutable\n",
		},
		{"news -role read usa.# *.weather", "news -role publish", 1, "europe.weather\nusa\nusa.ne\nusa.weather\n", ""},
		{
			"fib -role serve", "fib -role call", 2, "", // requests, and calls given up
			"fib(30) = 832040\n" +
				"20 calls at once: [0 1 1 2 3 5 8 13 21 34 55 89 144 233 377 610 987 1597 2584 4181]\n" +
				"call RPC \"fib\": remote error (negative): negative\n",
		},
	} {
		name, _, _ := strings.Cut(c.listener, " ")
		t.Run(name, func(t *testing.T) {
			v := amqptest.Shared(t)
			const listeners = 2
			var listening []*process
			for range listeners {
				listening = append(listening, p.startRole(t, v, c.listener))
			}
			if name == "fib" { // the servers share the queue of requests
				awaitConsumers(t, v, listeners*c.queues, c.queues+listeners-1)
			} else {
				awaitConsumers(t, v, listeners*c.queues, listeners*c.queues)
			}
			if got := p.startRole(t, v, c.publisher).wait(t); got != c.printed {
				t.Errorf("%s printed:\n%s\nwant:\n%s", c.publisher, got, c.printed)
			}
			for _, l := range listening {
				for _, line := range strings.SplitAfter(c.heard, "\n") {
					l.until(t, line)
				}
				lines := strings.SplitAfter(l.interrupt(t), "\n")
				slices.Sort(lines)
				if got := strings.Join(lines, ""); got != c.heard {
					t.Errorf("%s printed:\n%s\nwant:\n%s", l, got, c.heard)
				}
			}
		})
	}
	t.Run("takeout", p.testTakeoutRoles)
}

// testTakeoutRoles has a merchant who comes late.
func (p programs) testTakeoutRoles(t *testing.T) {
	v := amqptest.Shared(t)
	order := p.startRole(t, v, "takeout -role order -scale 0.2")
	order.until(t, "They are processes of their own")
	var services []*process
	for _, name := range []string{"rider", "ledger", "merchant"} {
		services = append(services, p.startRole(t, v, "takeout -scale 0.2 -role "+name))
	}
	if got, want := order.wait(t), "takeout: orders=300 rider=300 merchant=300 ledger=300 lost=0 "; !strings.Contains(got, want) {
		t.Errorf("it printed no %s:\n%s", want, got)
	}
	for _, s := range services {
		if got := s.interrupt(t); !strings.Contains(got, "=300\n") {
			t.Errorf("%s printed:\n%s", s, got)
		}
	}
}

// startRole starts an example on v.
func (p programs) startRole(t *testing.T, v *amqptest.VHost, line string) *process {
	t.Helper()
	fields := strings.Fields(line)
	return p.start(t, fields[0], append([]string{"-broker", v.URL}, fields[1:]...)...)
}

// awaitConsumers waits until there are so many consumers, of so many queues.
func awaitConsumers(t *testing.T, v *amqptest.VHost, consumers, queues int) {
	t.Helper()
	var list []amqptest.Queue
	for late := time.Now().Add(patience); time.Now().Before(late); time.Sleep(20 * time.Millisecond) {
		var err error
		if list, err = v.Queues(t.Context()); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, q := range list {
			n += q.Consumers
		}
		if n == consumers && len(list) == queues {
			return
		}
	}
	t.Fatalf("not %d consumers of %d queues, but %+v", consumers, queues, list)
}
