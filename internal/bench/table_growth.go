package main

const kib = 1024

// curves is the table of all that grows.
func curves() []Curve {
	return []Curve{
		{
			Name: "growth/subscriptions", Of: "subscriptions", Baseline: rawClient, Sizes: []int{1, 10, 100, 1000},
			Figures: []Figure{
				{Name: "connections"},
				{Name: "channels"},
				{Name: "goroutines", Each: 3, Flat: 1.5},
				{Name: "heap and stacks", Unit: "B", Each: 32 * kib, Flat: 1.5},
				{Name: "ready after", Unit: "s", Flat: 1.5},
				{Name: "back after a cut", Unit: "s", Flat: 1.5},
			},
			Ours: motifSubscriptions, Theirs: rawSubscriptions,
		},
		{
			Name: "growth/in flight", Of: "publishes in flight", Baseline: rawClient, Sizes: []int{100, 1000, 10_000, 100_000},
			Figures: []Figure{{Name: "heap", Unit: "B"}, {Name: "sent after", Unit: "s"}, {Name: "all confirmed after", Unit: "s"}},
			Ours:    motifInFlight, Theirs: rawInFlight,
		},
		{
			Name: "growth/memory backlog", Of: "messages waiting", Baseline: "a Go channel of messages",
			Sizes:   []int{1000, 10_000, 100_000, 1_000_000},
			Figures: []Figure{{Name: "heap", Unit: "B", Each: kib}, {Name: "published after", Unit: "s"}, {Name: "taken after", Unit: "s"}},
			Ours:    memoryBacklog, Theirs: channelBacklog, InProcess: true,
		},
		{
			Name: "growth/memory subscriptions", Of: "subscriptions", Baseline: "a goroutine on a Go channel", Sizes: []int{1, 10, 100, 1000},
			Figures: []Figure{
				{Name: "goroutines", Each: 3, Flat: 1.5}, {Name: "heap and stacks", Unit: "B", Each: 32 * kib, Flat: 1.5},
			},
			Ours: memorySubscriptions, Theirs: channelSubscriptions, InProcess: true,
		},
	}
}
