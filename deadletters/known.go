package deadletters

// maxKnown bounds what is remembered of letters that were sent. A letter comes again only if the
// broker had not processed its acknowledgement, and it sends no more letters than groupSize before
// it has; a classic queue may forget more of them when it is killed.
const maxKnown = 100_000

// known is the letters that were confirmed where they were sent to. One that comes again is not to
// be sent a second time.
type known struct {
	sent  map[digest]sentLetter
	order []digest // the last ones that were added, in a ring
	next  int
}

type sentLetter struct {
	ref, to string
	kept    bool // its acknowledgement failed
	taken   bool // its acknowledgement was sent
}

func newKnown(j *Journal) *known {
	k := &known{sent: map[digest]sentLetter{}}
	if j != nil {
		for _, d := range j.confirmed {
			k.add(d, sentLetter{})
		}
	}
	return k
}

func (k *known) add(d digest, l sentLetter) {
	if len(k.order) < maxKnown {
		k.order = append(k.order, d)
	} else {
		delete(k.sent, k.order[k.next])
		k.order[k.next] = d
		k.next = (k.next + 1) % maxKnown
	}
	k.sent[d] = l
}

// keeps notes that the letter was not taken away.
func (k *known) keeps(d digest, ref, to string) {
	if _, ok := k.sent[d]; ok {
		k.sent[d] = sentLetter{ref: ref, to: to, kept: true}
	}
}

// takes notes that the letter's acknowledgement was sent, which may yet be lost.
func (k *known) takes(d digest) {
	if l, ok := k.sent[d]; ok {
		l.kept, l.taken = false, true
		k.sent[d] = l
	}
}

// has reports whether the letter was sent, and whether its acknowledgement was. It stays known: its
// next acknowledgement may be lost, too.
func (k *known) has(d digest) (sent, taken bool) {
	l, sent := k.sent[d]
	return sent, l.taken
}

// kept returns those that were not taken away, and did not come again.
func (k *known) kept() (all []Doubt) {
	for _, l := range k.sent {
		if l.kept {
			all = append(all, Doubt{l.ref, l.to, MaybeKept})
		}
	}
	return all
}
