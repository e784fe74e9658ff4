package jetstream

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

var _ adapters.Inspector = (*Driver)(nil)

// Inspect implements [adapters.Inspector]. What drivers hold that do not answer within a quarter of
// a second counts as Ready.
func (d *Driver) Inspect(ctx context.Context, name string) (info adapters.QueueInfo, err error) {
	err = d.inspect(ctx, "inspect", name, nil, func(s *session, q *queue) error {
		info, err = s.inspect(ctx, q)
		return err
	})
	return info, err
}

func (s *session) inspect(ctx context.Context, q *queue) (info adapters.QueueInfo, err error) {
	at, err := s.depthOf(ctx, q)
	if err != nil {
		return info, err
	}
	info = adapters.QueueInfo{Name: q.name, Ready: at.ready, Unacked: at.unacked, Consumers: at.consumers}
	if at.ready == 0 {
		return info, nil
	}
	first, err := s.browse(ctx, q, at, 1)
	if err == nil && len(first) > 0 {
		info.Oldest = first[0].Timestamp
	}
	return info, err
}

// Queues implements [adapters.Inspector]. Private queues are among them, those of reply addresses
// are not. All are looked at before the first one is yielded.
func (d *Driver) Queues(ctx context.Context) iter.Seq2[adapters.QueueInfo, error] {
	return func(yield func(adapters.QueueInfo, error) bool) {
		var all []adapters.QueueInfo
		err := d.ask(ctx, "list queues", func(s *session) (err error) {
			all, err = s.queues(ctx)
			return err
		})
		if err != nil {
			yield(adapters.QueueInfo{}, err)
			return
		}
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (s *session) queues(ctx context.Context) (all []adapters.QueueInfo, err error) {
	streams, err := s.js.streams(ctx)
	if err != nil {
		return nil, s.apiError("listing queues", err)
	}
	var found []*queue
	for _, info := range streams {
		name := info.Config.Metadata[metaQueue]
		if !strings.HasPrefix(info.Config.Name, queuePrefix) || strings.HasPrefix(name, replyPrefix) {
			continue
		}
		if q, err := queueOf(nameQueue(name), info.Config); err == nil {
			found = append(found, q)
		}
	}
	for _, q := range found {
		switch info, err := s.inspect(ctx, q); {
		case err == nil:
			all = append(all, info)
		case !errors.Is(err, adapters.ErrNotFound): // it has gone meanwhile
			return nil, err
		}
	}
	return all, nil
}

// Browse implements [adapters.Inspector]. It takes nothing: the server reads the messages from its
// store, one after the other. What was given back is shown in the order in which it was published,
// and how often it was is not known, so that Returned is -1.
func (d *Driver) Browse(ctx context.Context, name string, limit int) (found []adapters.Delivery, err error) {
	err = d.inspect(ctx, "browse", name, adapters.ValidateBrowse(name, limit), func(s *session, q *queue) error {
		at, err := s.depthOf(ctx, q)
		if err == nil {
			found, err = s.browse(ctx, q, at, limit)
		}
		return err
	})
	return found, err
}

func (s *session) browse(ctx context.Context, q *queue, at depth, limit int) (found []adapters.Delivery, err error) {
	size, behind := 0, at.ready
	for next := at.settled + 1; len(found) < limit; {
		stored, err := s.storedFrom(ctx, q, next)
		if err != nil {
			return nil, err
		}
		if stored == nil {
			break
		}
		next = stored.Seq + 1
		if at.held[stored.Seq] {
			continue
		}
		if expires := stored.expires(q); !expires.IsZero() && !time.Now().Before(expires) { // once it is the next, it expires
			behind--
			continue
		}
		if size += len(stored.payload); size > adapters.MaxBrowseBytes && len(found) > 0 {
			break
		}
		behind--
		copied := stored.envelope.delivery(stored.payload)
		copied.Message.SetContext(context.WithoutCancel(ctx))
		if stored.Seq <= at.delivered {
			copied.Redelivered, copied.Returned = true, -1
		}
		found = append(found, copied)
	}
	if len(found) > 0 {
		found[len(found)-1].Remaining = max(0, behind)
	}
	return found, nil
}

// storedMessage is a message in the store of a queue.
type storedMessage struct {
	Seq     uint64    `json:"seq"`
	Headers []byte    `json:"hdrs"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`

	envelope envelope
	payload  []byte
}

func (m *storedMessage) expires(q *queue) time.Time {
	return m.envelope.expires(m.Time, q.spec.MessageTTL)
}

// storedFrom returns the first message of a queue from a number on, or nil if there is none.
func (s *session) storedFrom(ctx context.Context, q *queue, seq uint64) (*storedMessage, error) {
	question, _ := json.Marshal(map[string]any{"seq": seq, "next_by_subj": q.messages()})
	back, err := s.ask(ctx, "$JS.API.STREAM.MSG.GET."+q.stream(), question)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Message storedMessage `json:"message"`
	}
	switch code, err := apiAnswer(back, &answer); {
	case code == int(jetstream.JSErrCodeMessageNotFound):
		return nil, nil
	case err != nil:
		return nil, s.apiError("reading queue "+q.name, err)
	}
	m := &nats.Msg{Data: answer.Message.Data}
	if m.Header, err = nats.DecodeHeadersMsg(answer.Message.Headers); err != nil {
		m.Header = nats.Header{}
	}
	answer.Message.envelope, answer.Message.payload = decode(m)
	return &answer.Message, nil
}

// Bindings implements [adapters.Inspector]. It reads all exchanges.
func (d *Driver) Bindings(ctx context.Context, name string) (bound []adapters.Binding, err error) {
	err = d.inspect(ctx, "list bindings", name, nil, func(s *session, q *queue) error {
		bound = nil
		exchanges, err := s.exchanges(ctx)
		for _, exchange := range exchanges {
			some, err := d.routes.Bindings(ctx, exchange, q.bound())
			if err != nil {
				return err
			}
			bound = append(bound, some...)
		}
		return err
	})
	return bound, err
}

// Purge implements [adapters.Inspector]. It takes what waits, as a consumer does, and acknowledges
// it. If the connection is lost meanwhile, it goes on in the next one.
func (d *Driver) Purge(ctx context.Context, name string) (n int, err error) {
	err = d.inspect(ctx, "purge", name, nil, func(s *session, q *queue) error {
		at, err := s.depthOf(ctx, q)
		for left := at.ready; err == nil && left > 0; {
			var taken, live int
			taken, live, err = d.purge(ctx, s, q, min(left, purgeBatch))
			n += live
			if left -= taken; taken == 0 {
				break // others have had the rest
			}
		}
		return err
	})
	return n, err
}

const (
	purgeBatch = 256
	purgeWait  = time.Second // for a message that others may have had
)

// purge takes so many messages, and returns how many there were, without those that had expired.
func (d *Driver) purge(ctx context.Context, s *session, q *queue, most int) (taken, live int, err error) {
	inbox, err := s.nc.SubscribeSync(newInbox())
	if err != nil {
		return 0, 0, s.sendError(err)
	}
	defer inbox.Unsubscribe() //nolint:errcheck // it ends with the connection, else
	ctx, done := s.refusable(ctx, nextSubject(q))
	defer done()
	question, _ := json.Marshal(map[string]any{"batch": most, "expires": purgeWait})
	if err := s.nc.PublishRequest(nextSubject(q), inbox.Subject, question); err != nil {
		return 0, 0, s.sendError(err)
	}
	holder := d.holder(s, adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: q.name}}, q)
	last := ""
	for taken < most {
		m, err := nextWithin(ctx, inbox, 2*purgeWait)
		if err != nil {
			return taken, live, cmp.Or(refusal(ctx), s.sendError(err))
		}
		if m.Header.Get("Status") != "" && len(m.Data) == 0 {
			break
		}
		h, err := holder.at.newDelivery(m)
		if err != nil {
			return taken, live, fmt.Errorf("jetstream: purge: %w: %w", adapters.ErrUnavailable, err)
		}
		taken++
		if h.isExpired() {
			holder.mu.Lock()
			holder.held[h] = struct{}{}
			h.expire()
			holder.mu.Unlock()
			continue
		}
		live++
		if err := s.nc.Publish(m.Reply, ackDone); err != nil {
			return taken, live, s.sendError(err)
		}
		last = m.Reply
	}
	if last != "" {
		_, err = s.ask(ctx, last, ackDone) // and hear that all have been seen
	}
	return taken, live, err
}

// Delete implements [adapters.Inspector]. It looks whether a condition is met and deletes the queue
// in two steps, and its bindings in further ones.
func (d *Driver) Delete(ctx context.Context, name string, only adapters.Condition) error {
	begun := false
	err := d.inspect(ctx, "delete", name, nil, func(s *session, q *queue) error {
		if only != 0 {
			info, err := s.inspect(ctx, q)
			if err := cmp.Or(err, only.Unmet(info)); err != nil {
				return err
			}
		}
		begun = true
		if err := s.deleteQueue(ctx, q); err != nil {
			return err
		}
		exchanges, err := s.exchanges(ctx)
		for _, exchange := range exchanges {
			if err := d.routes.Remove(ctx, adapters.Endpoint{Kind: adapters.Exchange, Name: exchange}, q.bound()); err != nil {
				return err
			}
		}
		return err
	})
	if begun && errors.Is(err, adapters.ErrNotFound) {
		return nil // the attempt before, in a session that was lost, had deleted it
	}
	return err
}

// Compare implements [adapters.Inspector].
func (d *Driver) Compare(ctx context.Context, e adapters.Endpoint, spec adapters.QueueSpec) (found []adapters.Difference, err error) {
	if err := adapters.ValidateCompare(e, spec); err != nil {
		return nil, fmt.Errorf("jetstream: compare: %w", err)
	}
	if e.Kind == adapters.Queue {
		err = d.inspect(ctx, "compare", e.Name, nil, func(_ *session, q *queue) error {
			found = kit.Differences(spec, q.spec)
			return nil
		})
		return found, err
	}
	err = d.ask(ctx, "compare", func(*session) error {
		kind, err := d.routes.Kind(ctx, e.Name)
		if err == nil && kind != e.Kind.String() {
			found = []adapters.Difference{{Property: "kind", Declared: e.Kind.String(), Actual: kind}}
		}
		return err
	})
	return found, err
}

// inspect calls f with a queue.
func (d *Driver) inspect(ctx context.Context, verb, name string, valid error, f func(*session, *queue) error) error {
	source := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: name}}
	if err := cmp.Or(valid, source.Validate()); err != nil {
		return fmt.Errorf("jetstream: %s: %w", verb, err)
	}
	return d.ask(ctx, verb, func(s *session) error {
		q, err := s.look(ctx, nameQueue(name))
		if err != nil {
			return err
		}
		return f(s, q)
	})
}

// ask calls f with the session, and with the next one, if it is lost meanwhile.
func (d *Driver) ask(ctx context.Context, verb string, f func(*session) error) error {
	if err := d.tasks.Check(ctx, "jetstream: "+verb); err != nil {
		return err
	}
	for {
		s, err := d.live(ctx)
		if err != nil {
			return d.tasks.Explain(ctx, err)
		}
		err = f(s)
		if err == nil || ctx.Err() != nil || !s.nc.IsClosed() || !errors.Is(err, adapters.ErrUnavailable) && !errors.Is(err, adapters.ErrUnconfirmed) {
			return d.tasks.Explain(ctx, err)
		}
		select {
		case <-s.ctx.Done(): // soon, since its connection is closed
		case <-ctx.Done():
		}
	}
}
