package main

import (
	"fmt"
)

// endToEnd is about typed values from a sender to a handler.
func endToEnd() []Workload {
	return []Workload{{
		Name: "typed/JSON 1 KiB, end to end", Baseline: "encoding/json and " + rawClient, Quick: true,
		Ours: motifTyped, Theirs: rawTyped, Target: Target{Rate: 1.1},
	}}
}

// fanout is about copies for many groups. A message is one copy, handled.
func fanout() []Workload {
	var all []Workload
	for _, groups := range []int{1, 10, 100} {
		all = append(all, Workload{
			Name: fmt.Sprintf("fanout/%d groups", groups), Baseline: rawClient,
			Ours: motifFanout(groups), Theirs: rawFanout(groups), Prepare: prepareFanout(groups),
		})
	}
	return all
}

// topics is about confirmed publishes to a topic exchange with many bindings,
// one of which matches.
func topics() []Workload {
	var all []Workload
	for _, bindings := range []int{1, 100, 10_000} {
		all = append(all, Workload{
			Name: fmt.Sprintf("topic/%d bindings", bindings), Baseline: rawClient,
			Ours: motifTopic, Theirs: rawTopic, Prepare: prepareTopic(bindings),
		})
	}
	return all
}

// calling is about calls and their replies.
func calling() []Workload {
	var all []Workload
	for _, callers := range []int{1, 8, 64, 512} {
		w := Workload{
			Name: fmt.Sprintf("rpc/%d callers", callers), Baseline: rawClient + ", direct reply-to",
			Ours: motifCall(callers), Theirs: rawCall(callers), Latency: true,
		}
		switch callers {
		case 1:
			w.Target, w.Quick = Target{P50: 1.03}, true
		case 64:
			w.Target, w.Quick = Target{Rate: 1.25}, true
		}
		if w.Target != (Target{}) {
			confirmed := w
			confirmed.Baseline, confirmed.Theirs = w.Baseline+", with the same promises", rawConfirmedCall(callers)
			confirmed.Target, confirmed.Quick, confirmed.Limit = Target{}, false, true
			all = append(all, confirmed)
		}
		all = append(all, w)
	}
	return all
}
