package main

// inProcess is about the broker in the same process.
func inProcess() []Workload {
	all := []Workload{
		{
			Name: "memory/publish to ack, at the seam", Baseline: "a bare Go channel", Quick: true,
			Ours: memorySeam, Theirs: bareChannel, Target: Target{Rate: 0.85, Allocs: 4, Bytes: 420},
		},
		{
			Name: "memory/publish to ack, at the seam", Baseline: "watermill's gochannel", Quick: true,
			Ours: memorySeam, Theirs: goChannel, Target: Target{Rate: 8},
		},
		{
			Name: "memory/publish to ack, at the seam", Baseline: "a bare Go channel, and a copy for the receiver",
			Ours: memorySeam, Theirs: copyingChannel, Limit: true,
		},
		{
			Name: "memory/typed work queue, JSON 1 KiB", Baseline: "encoding/json and the seam",
			Ours: memoryTyped, Theirs: memoryParts, Target: Target{Rate: 0.5},
		},
		{
			Name: "memory/topic, 10,000 bindings", Baseline: "a queue",
			Ours: memoryPublish(true), Theirs: memoryPublish(false), Target: Target{Micros: 10},
		},
	}
	for i := range all {
		all[i].InProcess, all[i].Warmup = true, 20_000
	}
	return all
}
