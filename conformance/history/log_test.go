package history

import "testing"

func TestLogKnowsWhatIsOpen(t *testing.T) {
	s := script{New()}.sent("a").sent("b").delivered("a", 1, false, "ack")
	if s.Open() != 1 {
		t.Errorf("%d messages are open, want 1", s.Open())
	}
	if s = s.delivered("b", 1, false, "requeue"); s.Open() != 1 {
		t.Errorf("%d messages are open after a requeue, want 1", s.Open())
	}
	if s = s.delivered("b", 1, true, "ack"); s.Open() != 0 {
		t.Errorf("%d messages are open, want 0", s.Open())
	}
}
