package main

import "github.com/motifmq/motif/adapters/amqp"

const (
	quorum  = "quorum"
	classic = "classic"
	small   = 256 // bytes
)

// publishing is about confirmed publishes of persistent messages to a durable
// queue.
func publishing() []Workload {
	raw := func(name string, ours, theirs Side) Workload {
		return Workload{Name: "publish/" + name, Baseline: rawClient, Ours: ours, Theirs: theirs}
	}
	window := func(name string, window, size int) Workload {
		return raw(name, motifPublish(amqp.Quorum, window, size), rawPublish(quorum, window, size))
	}
	main := window("window 256", 256, small)
	main.Quick, main.Target = true, Target{Rate: 1.15, CPU: 0.5}

	large, huge := window("64 KiB", 256, 64<<10), window("1 MiB", 256, 1<<20)
	large.Target, huge.Target = Target{Rate: 1.1, CPU: 0.6}, Target{Rate: 1, CPU: 0.6}
	huge.Warmup = 50 // else the broker's disk gets gigabytes
	old := raw("classic queue", motifPublish(amqp.Classic, 256, small), rawPublish(classic, 256, small))
	old.Target = Target{Rate: 1.05}

	one := raw("one sender, blocking", motifSend(1), rawSend(1))
	one.Latency = true

	async := Workload{
		Name: "publish/one sender, async", Baseline: watermillAMQP + ", pool 1", Quick: true,
		Ours: motifPublish(amqp.Quorum, 1024, small), Theirs: watermillSend(1), Target: Target{Rate: 15},
	}
	many := raw("64 senders, blocking", motifSend(64), rawSend(64))
	many.Latency = true
	pool := Workload{
		Name: many.Name, Baseline: watermillAMQP + ", pool 64", Quick: true, Latency: true,
		Ours: motifSend(64), Theirs: watermillSend(64), Target: Target{Rate: 4},
	}
	limit := func(w Workload, kind string, window, size int) Workload {
		return Workload{
			Name: w.Name, Baseline: noClient, Ours: w.Ours, Theirs: ceiling(kind, window, size), Limit: true, Warmup: w.Warmup,
		}
	}
	return []Workload{
		main, limit(main, quorum, 256, small), one, window("window 2048", 2048, small), async, many, pool, limit(many, quorum, 64, small),
		raw("batches of 100", motifBatch(100), rawBatch(100)),
		window("64 B", 256, 64), window("4 KiB", 256, 4<<10),
		large, limit(large, quorum, 256, 64<<10), huge, limit(huge, quorum, 256, 1<<20), old, limit(old, classic, 256, small),
	}
}
