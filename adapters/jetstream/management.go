package jetstream

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// management asks again what the server does not answer. A server says nothing to a request for
// which its cluster has no leader at the moment, as after a restart, and nothing is all that a
// client hears of it. What is asked here may be asked twice: what has been made is made already,
// and what has been deleted is not found.
type management struct {
	once    jetstream.JetStream
	session *session
}

// patient calls ask until there is an answer, as long as ctx allows, or for three times apiTimeout.
func patient[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 3*apiTimeout)
		defer cancel()
	}
	for wait := apiTimeout / 8; ; wait *= 2 {
		attempt, cancel := context.WithTimeout(ctx, wait)
		answer, err := ask(attempt)
		if isStarting(err) {
			<-attempt.Done() // which takes long enough
		}
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) && !isStarting(err) || ctx.Err() != nil {
			return answer, err
		}
	}
}

// asked is patient for what is asked by a subject, which the server may refuse.
func asked[T any](ctx context.Context, m management, subject string, ask func(context.Context) (T, error)) (T, error) {
	ctx, done := m.session.refusable(ctx, "$JS.API."+subject)
	defer done()
	answer, err := patient(ctx, ask)
	if err != nil {
		err = cmp.Or(refusal(ctx), err)
	}
	return answer, err
}

// isStarting reports whether an answer is that of a cluster some of whose servers are not there so
// far.
func isStarting(err error) bool {
	const noSuitablePeers, notAvailable = 10005, 10008 // the client has no names for them
	e, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (e.ErrorCode == notAvailable || e.ErrorCode == noSuitablePeers && strings.Contains(e.Description, "offline"))
}

// available returns an error unless the server has JetStream, for this account.
func (m management) available(ctx context.Context) error {
	_, err := asked(ctx, m, "INFO", m.once.AccountInfo)
	return err
}

// streams returns what all streams are and hold.
func (m management) streams(ctx context.Context) ([]*jetstream.StreamInfo, error) {
	return asked(ctx, m, "STREAM.LIST", func(ctx context.Context) (all []*jetstream.StreamInfo, err error) {
		list := m.once.ListStreams(ctx)
		for info := range list.Info() {
			all = append(all, info)
		}
		return all, list.Err()
	})
}

func (m management) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	return asked(ctx, m, "STREAM.INFO."+name, func(ctx context.Context) (jetstream.Stream, error) { return m.once.Stream(ctx, name) })
}

// subjects returns what a stream holds, with how many messages of each subject that matches filter.
func (m management) subjects(ctx context.Context, name, filter string) (*jetstream.StreamInfo, error) {
	return asked(ctx, m, "STREAM.INFO."+name, func(ctx context.Context) (*jetstream.StreamInfo, error) {
		stream, err := m.once.Stream(ctx, name)
		if err != nil {
			return nil, err
		}
		return stream.Info(ctx, jetstream.WithSubjectFilter(filter))
	})
}

func (m management) CreateStream(ctx context.Context, c jetstream.StreamConfig) (jetstream.Stream, error) {
	return asked(ctx, m, "STREAM.CREATE."+c.Name, func(ctx context.Context) (jetstream.Stream, error) { return m.once.CreateStream(ctx, c) })
}

func (m management) DeleteStream(ctx context.Context, name string) error {
	_, err := asked(ctx, m, "STREAM.DELETE."+name, func(ctx context.Context) (any, error) { return nil, m.once.DeleteStream(ctx, name) })
	return err
}

func (m management) Consumer(ctx context.Context, stream, name string) (jetstream.Consumer, error) {
	return asked(ctx, m, "CONSUMER.INFO."+stream+"."+name, func(ctx context.Context) (jetstream.Consumer, error) {
		return m.once.Consumer(ctx, stream, name)
	})
}

func (m management) CreateConsumer(ctx context.Context, stream string, c jetstream.ConsumerConfig) (jetstream.Consumer, error) {
	return asked(ctx, m, "CONSUMER.CREATE."+stream+"."+c.Name+"."+c.FilterSubject, func(ctx context.Context) (jetstream.Consumer, error) {
		return m.once.CreateConsumer(ctx, stream, c)
	})
}
