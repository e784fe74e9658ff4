// Package amqptest runs private RabbitMQ nodes for tests, and breaks them: yours, of a program that
// uses package amqp or any other client, and Motif's own.
//
//	func TestShipsThroughARestart(t *testing.T) {
//		node := amqptest.Private(t, amqptest.Options{})
//		bus, err := patterns.Open(t.Context(), node.URL)
//		// ...
//		if err := node.Kill(); err != nil { // as a power cut does
//			t.Fatal(err)
//		}
//		if err := node.Restart(t.Context()); err != nil {
//			t.Fatal(err)
//		}
//		// ...
//	}
//
// A node listens on loopback only and has its own name, ports, data, cookie
// and logs in a temporary folder; it shares nothing with a broker of the
// system, nor with the nodes of other test programs that run at the same time.
//
// Tests take what disturbs others least:
//
//   - [URL]: any broker. That of AMQP_URL if it is set, else a [Shared] one.
//   - [Shared]: a virtual host of the test's own, on one node per test program:
//     close its connections, delete its queues, take its permissions away.
//   - [Private]: a node of the test's own, to stop, kill, freeze and starve.
//   - [Cluster]: several of them, which know each other.
//   - [ProxyTo]: a bad network in front of any of these.
//
// [Start], [StartCluster] and [NewProxy] are the same without a test.
//
// It needs RabbitMQ on the machine: its rabbitmq-server, and epmd of the Erlang that it runs on.
// They are looked for in root folders that [Install] has made (/var/cache/motif/rabbitmq-4.3),
// where Debian and Homebrew put them, and in PATH. It takes neither Docker nor a service that runs,
// and works on Linux and macOS. Which RabbitMQ: the version that [Options] name, else that of
// MOTIF_RABBITMQ in the environment, such as 4.3, else the newest that is found.
//
// Without it a test fails, and says how to install it; with MOTIF_BROKER=skip in the environment it
// is skipped. On Debian or Ubuntu root can install several versions beside each other, which
// touches nothing else on the machine:
//
//	go run github.com/motifmq/motif/adapters/amqp/amqptest/cmd/broker -install
//
// Without -install that command starts a node to play with.
//
// Nothing stays behind. Beside the nodes waits a process whose only task is to
// end them and remove their folder once the test program has closed them or is
// gone, however it went: a panic in some goroutine, a timeout, kill -9.
package amqptest
