package memory

import (
	"fmt"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// mismatch is the error of whoever declares a queue that exists with other properties. It names
// those that differ, by the options that set them.
func mismatch(name string, has, declared adapters.QueueSpec) error {
	var differ []string
	for _, p := range []struct {
		option        string
		has, declared any
	}{
		{"DeadLetter", fmt.Sprintf("%q", has.DeadLetter), fmt.Sprintf("%q", declared.DeadLetter)},
		{"MaxLength", has.MaxLength, declared.MaxLength},
		{"DropOldest", has.Overflow == adapters.DropHead, declared.Overflow == adapters.DropHead},
		{"MessageTTL", has.MessageTTL, declared.MessageTTL},
		{"MaxPriority", has.MaxPriority, declared.MaxPriority},
		{"AutoDelete", has.AutoDelete, declared.AutoDelete},
		{"Partitions", has.SingleActive, declared.SingleActive},
	} {
		if p.has != p.declared {
			differ = append(differ, fmt.Sprintf("%s %v, not %v", p.option, p.has, p.declared))
		}
	}
	return fmt.Errorf("memory: queue %q has %s: give the same options everywhere, or use the queue as it stands (Passive): %w",
		name, strings.Join(differ, "; "), adapters.ErrMismatch)
}
