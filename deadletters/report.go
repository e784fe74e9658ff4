package deadletters

import (
	"fmt"
	"slices"
)

// Report is what a run did. It is complete also if the run ended with an error.
type Report struct {
	Run string // its name: what HeaderReplay of what it sent says

	Sent       int // letters that the broker confirmed where they were sent to
	Removed    int // letters that were taken away without being sent: by Drop
	Recognized int // letters that came again although they had been sent, and were taken away
	CameBack   int // letters that died again during the run, and were left
	Kept       int // letters that were looked at and left, those of Failed and CameBack included

	Missing []string // of the filter's Refs, those that no letter had; nil if the run did not come to its end

	Failed   []Failure // letters that could not be sent, and were left
	Doubtful []Doubt   // letters that may be double
}

// A Failure is a letter that was not sent, and why.
type Failure struct {
	Ref string
	To  string
	Err error
}

// Error says which letter failed, and why.
func (f Failure) Error() string { return fmt.Sprintf("letter %s to queue %q: %v", f.Ref, f.To, f.Err) }

// A Doubt is a letter that may be in two places, or twice in one.
type Doubt struct {
	Ref string
	To  string
	Why Why
}

// Why says what is in doubt.
type Why string

// What can be in doubt about a letter.
const (
	MaybeSentTwice Why = "sent again after an unconfirmed publish: it may be there twice"
	MaybeSent      Why = "sent without a confirm, and still a dead letter: it may be there already"
	MaybeKept      Why = "sent, and perhaps still a dead letter"
	MaybeBefore    Why = "sent again after a run that was killed: it may be there twice"
)

// unsettled reports whether what is in doubt may still be among the dead letters.
func (w Why) unsettled() bool { return w == MaybeSent || w == MaybeKept }

// Settled reports whether the run knows of nothing that it sent and that may still be among the
// dead letters. Of what an earlier run sent, or a lost session has yet to bring back, its [Journal]
// may have more to tell.
func (r *Report) Settled() bool {
	return !slices.ContainsFunc(r.Doubtful, func(d Doubt) bool { return d.Why.unsettled() })
}
