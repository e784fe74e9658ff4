package main

func publishing() []Workload {
	return []Workload{
		{
			Name: "publish/window-256", Baseline: rawClient, Quick: true,
			Ours: motifPublish("", 256, 256), Theirs: rawPublish("quorum", 256, 256),
			Target: Target{Rate: 1.15, CPU: 0.5},
		},
	}
}
