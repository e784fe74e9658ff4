package history

import (
	"cmp"
	"fmt"
	"slices"
)

// hands is how many unsettled messages each session holds. A message is taken
// to be in hand from when its delivery was noticed until its settling began.
type hands struct {
	prefetch map[uint64]int // by consumer
	releases []release      // in order, those that are still to come
	held     map[uint64]*hand
	sessions []*hand
}

type release struct {
	at      int
	session uint64
}

type hand struct {
	client, queue         string
	prefetch, held, worst int
}

func newHands() hands { return hands{prefetch: map[uint64]int{}, held: map[uint64]*hand{}} }

// prepare notes when settlings began.
func (h *hands) prepare(events []Event) {
	settled := map[uint64]bool{}
	for i := range events {
		switch e := &events[i]; e.Op {
		case Subscribed:
			h.prefetch[e.Consumer] = e.Prefetch
		case Settled, Unsettled:
			if !settled[e.Delivery] && h.prefetch[e.Consumer] > 0 {
				settled[e.Delivery] = true
				r := release{i, e.Session}
				if e.Begun > 0 {
					r.at = e.Begun
				}
				h.releases = append(h.releases, r)
			}
		}
	}
	slices.SortStableFunc(h.releases, func(a, b release) int { return cmp.Compare(a.at, b.at) })
}

// release lets go of what is settled before an event.
func (h *hands) release(before int) {
	n := 0
	for ; n < len(h.releases) && h.releases[n].at <= before; n++ {
		if s := h.held[h.releases[n].session]; s != nil {
			s.held--
		}
	}
	h.releases = h.releases[n:]
}

func (h *hands) deliver(e *Event) {
	most := h.prefetch[e.Consumer]
	if most == 0 {
		return
	}
	s := h.held[e.Session]
	if s == nil {
		s = &hand{client: e.Client, queue: e.Queue, prefetch: most}
		h.held[e.Session] = s
		h.sessions = append(h.sessions, s)
	}
	s.held++
	s.worst = max(s.worst, s.held)
}

func (h *hands) violations() (list []Violation) {
	for _, s := range h.sessions {
		if s.worst > s.prefetch {
			list = append(list, Violation{Unfair, "", s.queue, fmt.Sprintf("%s held %d unsettled messages with a prefetch of %d", s.client, s.worst, s.prefetch)})
		}
	}
	return list
}
