// Package rabbitmqtest runs private RabbitMQ nodes for tests, and breaks them.
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
// Which RabbitMQ: that of MOTIF_RABBITMQ in the environment, such as 4.3, else
// the newest on the machine, unless [Options] name one. It is the one of a root
// folder that [Install] has made, or what the machine has of its own.
//
// A machine without it: a test is skipped with the reason, or fails if
// MOTIF_BROKER=require is in the environment. [Install] puts it there, or says
// how.
//
// Nothing stays behind. Beside the nodes waits a process whose only task is to
// end them and remove their folder once the test program has closed them or is
// gone, however it went: a panic in some goroutine, a timeout, kill -9.
package rabbitmqtest
