package deadletters

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/patterns"
)

// historyHeaders tell of a message's death, and are left behind when it is sent back, as
// [patterns.WorkQueue.Redrive] does.
var historyHeaders = []string{
	patterns.HeaderReason, patterns.HeaderAttempts, patterns.HeaderLosses, patterns.HeaderQueue, patterns.HeaderDiedAt,
	patterns.HeaderRepair, patterns.HeaderNotBefore, headerDeaths, headerFirstQueue, headerFirstReason,
}

// IsHistory reports whether a header of this name tells of a message's death, and is left behind
// when the message is sent back.
func IsHistory(name string) bool { return slices.Contains(historyHeaders, name) }

var (
	errNowhere = fmt.Errorf("%w: it does not say in which queue it died", adapters.ErrInvalid)
	errItself  = fmt.Errorf("%w: it died in this queue of dead letters itself", adapters.ErrInvalid)
	errSilent  = fmt.Errorf("%w: nothing comes from the queue although letters wait in it: another consumer may have it for itself", adapters.ErrUnavailable)
)

// keep leaves a letter in the queue.
func (r *run) keep(g *group, l *Letter) {
	r.report.Kept++
	g.hold(l.place, l.Settler)
}

// passBy notes that a letter is left, of which the journal may have more to tell.
func (r *run) passBy(d digest) {
	sent, _ := r.known.has(d)
	r.passed = r.passed || sent || r.o.Journal.doubts(d)
}

// picks decides about a letter that was taken, and reports whether it is to be sent.
func (r *run) picks(ctx context.Context, g *group, l *Letter) bool {
	if len(r.o.Filter.Refs) > 0 {
		r.found[r.o.Filter.ref(l)] = true
	}
	switch {
	case l.Message.Metadata[HeaderReplay] == r.report.Run:
		r.report.CameBack++
		r.keep(g, l)
		return false
	case !r.o.Filter.Match(l, time.Now()):
		if r.o.Journal != nil {
			r.passBy(l.digest())
		}
		r.keep(g, l)
		return false
	case r.drop:
		if r.takeAway(ctx, g, l) {
			r.report.Removed++
		}
		return false
	case l.Message.UUID != "" && r.comesAgain(ctx, g, l):
		return false
	}
	return true
}

// comesAgain reports whether a letter was published before, and does with it what that takes.
func (r *run) comesAgain(ctx context.Context, g *group, l *Letter) bool {
	d := l.digest()
	sent, taken := r.known.has(d)
	switch {
	case r.isUnderWay(d): // its session was lost, which nobody has noticed yet
		r.hand.lose()
		r.keep(g, l)
	case !sent:
		return false
	case r.takeAway(ctx, g, l):
		r.report.Recognized++
		r.known.takes(d)
		if taken { // and counted, but its acknowledgement was lost
			r.left++
			r.remaining++
		}
	default:
		r.known.keeps(d, l.Ref(), r.destination(l))
	}
	return true
}

// isUnderWay reports whether a letter was published and its result is not known yet.
func (r *run) isUnderWay(d digest) bool {
	for f := range r.flights {
		if f.digest == d {
			return true
		}
	}
	return false
}

// takeAway acknowledges a letter, and reports whether that was done.
func (r *run) takeAway(ctx context.Context, g *group, l *Letter) bool {
	g.unsettled--
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if err := l.Settle(ctx, adapters.Ack); err != nil {
		r.again = err
		if errors.Is(err, adapters.ErrStaleDelivery) {
			r.hand.lose()
		}
		return false
	}
	r.remaining--
	r.progress = time.Now()
	return true
}

// destination returns the queue to send a letter to, or "".
func (r *run) destination(l *Letter) string {
	if r.o.To != "" {
		return r.o.To
	}
	return l.From()
}

// send publishes a letter. Its result comes later.
func (r *run) send(ctx context.Context, g *group, l Letter) {
	r.nextSend = time.Now().Add(r.o.Every)
	f := &flight{group: g, digest: l.digest(), to: r.destination(&l)}
	err := r.refused[f.to]
	switch {
	case err != nil:
	case f.to == "":
		err = errNowhere
	case f.to == r.queue.name:
		err = errItself
	case r.o.Change != nil:
		changed := l
		changed.Message = clone(l.Message)
		if err = r.o.Change(&changed); err == nil {
			l = changed
		}
	}
	f.letter = l
	if err != nil {
		r.fail(f, err)
		return
	}
	r.flights[f] = struct{}{}
	if err := r.o.Journal.sending(f.digest, l.Ref(), f.to); err != nil {
		r.settle(ctx, result{f, fmt.Errorf("the journal: %w", err)})
		return
	}
	p, m := publication(&l, f.to, r.report.Run, r.features)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	if async, ok := r.queue.driver.(adapters.AsyncPublisher); ok {
		results := r.results // of this pass
		err = async.PublishAsync(ctx, p, m, func(err error) { results <- result{f, err} })
		if err == nil {
			return
		}
	} else {
		err = r.queue.driver.Publish(ctx, p, m)
	}
	r.settle(ctx, result{f, err})
}

// publication returns what is published to send a letter to a queue.
func publication(l *Letter, to, run string, features adapters.Features) (adapters.Publication, *message.Message) {
	p := adapters.Publication{
		To: adapters.Endpoint{Kind: adapters.Queue, Name: to}, Key: l.Key, Properties: l.Properties,
		Mandatory: features.Ability.Has(adapters.CanReturn),
	}
	p.Attempt, p.Lost = 0, 0
	m := clone(l.Message)
	for _, name := range historyHeaders {
		delete(m.Metadata, name)
	}
	m.Metadata[HeaderReplay] = run
	if !l.Timestamp.IsZero() { // see patterns.MaxAge
		m.Metadata[patterns.HeaderSentBackAt] = time.Now().UTC().Format(time.RFC3339Nano)
	}
	return p, m
}

func clone(m *message.Message) *message.Message {
	c := message.NewMessage(m.UUID, slices.Clone(m.Payload))
	maps.Copy(c.Metadata, m.Metadata)
	return c
}

// settle handles the outcome of a publish.
func (r *run) settle(ctx context.Context, res result) {
	f, err := res.f, res.err
	if f.settled {
		return
	}
	f.settled = true
	delete(r.flights, f)
	switch {
	case err == nil:
		r.confirm(ctx, f)
	case errors.Is(err, adapters.ErrUnconfirmed):
		r.unconfirmed[f.digest] = Doubt{f.letter.Ref(), f.to, MaybeSent}
		fallthrough
	case isPassing(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, adapters.ErrClosed):
		r.again = fmt.Errorf("letter %s to queue %q: %w", f.letter.Ref(), f.to, err)
		r.keep(f.group, &f.letter)
	default:
		if errors.Is(err, adapters.ErrUnroutable) || errors.Is(err, adapters.ErrAccess) || errors.Is(err, adapters.ErrNotFound) {
			r.refused[f.to] = err
		}
		r.fail(f, err)
	}
}

func (r *run) fail(f *flight, err error) {
	r.passBy(f.digest)
	r.report.Failed = append(r.report.Failed, Failure{f.letter.Ref(), f.to, err})
	r.keep(f.group, &f.letter)
}

// confirm takes a letter away that the broker has where it was sent to.
func (r *run) confirm(ctx context.Context, f *flight) {
	l := &f.letter
	r.report.Sent++
	r.progress = time.Now()
	if d, doubtful := r.o.Journal.doubt(f.digest); doubtful {
		r.report.Doubtful = append(r.report.Doubtful, d)
	}
	if d, before := r.unconfirmed[f.digest]; before {
		delete(r.unconfirmed, f.digest)
		d.Why = MaybeSentTwice
		r.report.Doubtful = append(r.report.Doubtful, d)
	}
	r.known.add(f.digest, sentLetter{ref: l.Ref(), to: f.to})
	if err := r.o.Journal.confirms(f.digest); err != nil && r.again == nil {
		r.again = fmt.Errorf("the journal: %w", err)
	}
	if !r.takeAway(ctx, f.group, l) {
		r.known.keeps(f.digest, l.Ref(), f.to)
		return
	}
	r.known.takes(f.digest)
	if r.o.Progress != nil {
		r.o.Progress(l, f.to)
	}
}

// giveUp ends the wait for what is in flight.
func (r *run) giveUp() {
	if len(r.flights) == 0 {
		r.again = errSilent
		return
	}
	for f := range r.flights {
		r.settle(context.Background(), result{f, fmt.Errorf("no answer from the broker: %w", adapters.ErrUnconfirmed)})
	}
}
