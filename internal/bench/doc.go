// Command bench measures Motif beside what a Go program would use otherwise:
// amqp091-go by hand, watermill-amqp, watermill's gochannel, a bare Go channel.
//
//	bench                   all workloads and growth curves
//	bench -quick            the main ones, in under a minute
//	bench -run publish/     those whose name matches
//	bench -nodes 3          on a cluster
//	bench -rabbitmq 3.10    on another version than MOTIF_RABBITMQ, or the newest
//
// make bench and make bench-quick run it. It starts RabbitMQ nodes of its own,
// unless AMQP_URL names a broker.
//
// # How it measures
//
// Each side of a pair runs in a process of its own, which prepares (connects, declares, fills),
// and then measures its own work only. Ours and theirs take turns; after a warm-up, which also
// tells how many messages make a good measurement, there are at least four pairs, or two where
// one takes long. A ratio is the median of the pairs' ratios, beside the smallest and the
// largest: so it holds while the machine's speed drifts.
//
// Rates are messages per second; CPU is the user and system time of the client's
// process, beside that of the broker's processes; allocations and bytes are the Go
// runtime's; the heap's and the goroutines' peaks are looked at every 5 ms.
//
// A workload (table_*.go) is a name, two functions and a target. Ours are in
// motif_*.go, and the baselines in a file for each peer: raw_*.go,
// watermillamqp.go, gochannel.go, channel.go. Each baseline is written as well
// as it can be with what it is written with.
package main
