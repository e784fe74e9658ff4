package watermill

import "github.com/motifmq/motif/adapters"

// ToFanout publishes to the fanout exchange that has the topic's name: every
// group and every private subscriber gets a copy.
func ToFanout(topic string) adapters.Publication {
	return adapters.Publication{To: adapters.Endpoint{Kind: adapters.Fanout, Name: topic}}
}

// ToQueue publishes to the queue that has the topic's name. A queue must
// exist before something is published to it, see [Publisher].
func ToQueue(topic string) adapters.Publication {
	return adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: topic}}
}

// FromFanout gives each call of Subscribe its own copy of what is published
// by [ToFanout] while it lasts.
func FromFanout(topic string) adapters.Source { return FromGroup("")(topic) }

// FromGroup consumes what is published by [ToFanout] as a member of a durable group. The group gets
// a copy of each message, even while no member is connected, and its members compete for them.
func FromGroup(group string) func(topic string) adapters.Source {
	return func(topic string) adapters.Source {
		return adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Fanout, Name: topic}, Group: group}
	}
}

// FromQueue consumes the queue that has the topic's name, in competition with
// its other consumers.
func FromQueue(topic string) adapters.Source {
	return adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: topic}}
}
