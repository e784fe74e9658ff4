package amqptest_test

import (
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// A node of the test's own goes through a power cut.
func ExamplePrivate() {
	test := func(t *testing.T) {
		node := amqptest.Private(t, amqptest.Options{Version: "4.3"})
		// Connect the program to node.URL, and give it some work.
		if err := node.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := node.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Look whether all of the work is done.
	}
	_ = test
}

// The network ends in the middle of a frame.
func ExampleProxyTo() {
	test := func(t *testing.T) {
		vhost := amqptest.Shared(t)
		network := amqptest.ProxyTo(t, vhost.URL)
		// Connect the program to network.URL(vhost.URL).
		network.LimitBytes(amqptest.ToBroker, 1000) // then all connections are cut
	}
	_ = test
}
