package kafka

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestTally: what was written is read, and what does not fit is said to have been delivered.
func TestTally(t *testing.T) {
	t.Parallel()
	for _, length := range []int{1, 10, 500, 3000} {
		var is tally
		var counts []int
		for i := range length {
			counts = append(counts, rand.IntN(3)-1)
			is.add(int64(100+i+1), counts[i])
		}
		text := is.text(100)
		if len(text) > 4096 {
			t.Errorf("of %d records: %d bytes", length, len(text))
		}
		got := parseTally(text, 100)
		exact := 0
		for i, want := range counts {
			switch n := got.of(int64(100 + i)); {
			case n == want && exact == i:
				exact++
			case n != 1:
				t.Fatalf("of %d records the %d. was delivered %d times, not %d", length, i, n, want)
			}
		}
		if exact < min(length, 1000) {
			t.Errorf("of %d records the first %d are told", length, exact)
		}
		if n := got.of(int64(100 + length)); n != 0 {
			t.Errorf("what is behind was delivered %d times", n)
		}
	}
	for _, text := range []string{"", "motif1 ", "motif1 x:1", "motif1 1", "motif1 0:1", "motif1 -1:1", "motif1 1:-2", "motif2 1:1", "another program's"} {
		if got := parseTally(text, 0); got != nil {
			t.Errorf("%q is %v", text, got)
		}
	}
	if text := tally(nil).text(5); parseTally(text, 5) != nil || !strings.HasPrefix(text, "motif1") {
		t.Errorf("of nothing: %q", text)
	}
}

// TestChooseActive: who is active stays so; else it is who came first, by generations, and by
// clocks among those who came together.
func TestChooseActive(t *testing.T) {
	t.Parallel()
	member := func(id string, said *kmsg.ConsumerMemberMetadata) kmsg.JoinGroupResponseMember {
		m := kmsg.NewJoinGroupResponseMember()
		m.MemberID = id
		if said != nil {
			said.Version = 2
			m.ProtocolMetadata = said.AppendTo(nil)
		}
		return m
	}
	waits := func(id, since string) kmsg.JoinGroupResponseMember {
		return member(id, &kmsg.ConsumerMemberMetadata{UserData: []byte(since)})
	}
	owns := func(id, since string, generation int32) kmsg.JoinGroupResponseMember {
		return member(id, &kmsg.ConsumerMemberMetadata{
			UserData: []byte(since), Generation: generation,
			OwnedPartitions: []kmsg.ConsumerMemberMetadataOwnedPartition{{Topic: "t", Partitions: []int32{0}}},
		})
	}
	for want, members := range map[string][]kmsg.JoinGroupResponseMember{
		"active":    {waits("a", "1 1"), owns("active", "7 9", 9), waits("b", "0 0")},
		"later":     {owns("z", "1 1", 8), owns("later", "2 2", 9)}, // the other has not heard that it is none
		"longest":   {waits("a", "3 1"), waits("longest", "2 9"), waits("b", "0 0")},
		"first":     {waits("a", "0 6"), waits("first", "0 5"), waits("b", "0 7")},
		"odd":       {member("odd", nil)},
		"known":     {member("a", nil), waits("known", "4 4")},
		"first-two": {waits("z", "2 2"), waits("first-two", "2 2")},
	} {
		if got := chooseActive(members); got != want {
			t.Errorf("%q is active, not %q", got, want)
		}
	}
}
