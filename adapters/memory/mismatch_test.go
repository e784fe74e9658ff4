package memory

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
)

func TestMismatchNamesWhatDiffers(t *testing.T) {
	has := adapters.QueueSpec{DeadLetter: "orders.dead", MaxLength: 5}
	for _, c := range []struct {
		change func(*adapters.QueueSpec)
		want   string
	}{
		{func(s *adapters.QueueSpec) { s.DeadLetter = "" }, `has DeadLetter "orders.dead", not "": give`},
		{func(s *adapters.QueueSpec) { s.MaxLength = 0 }, "has MaxLength 5, not 0: give"},
		{func(s *adapters.QueueSpec) { s.Overflow = adapters.DropHead }, "has DropOldest false, not true: give"},
		{func(s *adapters.QueueSpec) { s.MessageTTL = time.Second }, "has MessageTTL 0s, not 1s: give"},
		{func(s *adapters.QueueSpec) { s.MaxPriority = 9 }, "has MaxPriority 0, not 9: give"},
		{func(s *adapters.QueueSpec) { s.AutoDelete = true }, "has AutoDelete false, not true: give"},
		{func(s *adapters.QueueSpec) { s.MaxLength, s.MaxPriority = 6, 9 }, "has MaxLength 5, not 6; MaxPriority 0, not 9: give"},
	} {
		declared := has
		c.change(&declared)
		err := mismatch("orders", has, declared)
		if !errors.Is(err, adapters.ErrMismatch) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want an ErrMismatch with %q", err, c.want)
		}
	}
}
