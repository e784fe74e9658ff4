package history

import (
	"slices"

	"github.com/motifmq/motif/adapters"
)

// queues is what is known of the queues' properties.
type queues map[string]adapters.QueueSpec

// deadLetters are the queues that a dead letter of a queue comes to, one after
// the other, each once. The queue itself is among them if they are a circle.
func (q queues) deadLetters(queue string) (chain []string) {
	for next := q[queue].DeadLetter; next != "" && !slices.Contains(chain, next); next = q[next].DeadLetter {
		chain = append(chain, next)
	}
	return chain
}

// forgets reports whether a message may go from a queue with nobody to blame:
// since the queue goes itself, or drops messages and keeps no dead letters, or
// those are dropped in turn.
func (q queues) forgets(queue string) bool {
	for range len(q) + 1 {
		spec := q[queue]
		drops := spec.MessageTTL > 0 || spec.MaxLength > 0 && spec.Overflow == adapters.DropHead
		switch {
		case spec.AutoDelete:
			return true
		case !drops:
			return false
		case spec.DeadLetter == "":
			return true
		}
		queue = spec.DeadLetter
	}
	return true // a circle, which a broker may break
}

// feeders are, for each queue, those whose dead letters come to it.
func (q queues) feeders() map[string][]string {
	f := map[string][]string{}
	for queue := range q {
		for _, dead := range q.deadLetters(queue) {
			f[dead] = append(f[dead], queue)
		}
	}
	return f
}
