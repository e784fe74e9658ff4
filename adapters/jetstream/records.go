package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// records keeps bindings in a stream, with a subject for each exchange and only its last message.
type records struct{ d *Driver }

// Load implements [kit.Records]. The leader of the stream answers.
func (r records) Load(ctx context.Context, exchange string) ([]byte, uint64, error) {
	s, err := r.d.live(ctx)
	if err != nil {
		return nil, 0, err
	}
	question, _ := json.Marshal(map[string]string{"last_by_subj": bindingsPrefix + token(exchange)})
	m, err := s.ask(ctx, "$JS.API.STREAM.MSG.GET."+bindingsStream, question)
	if err != nil {
		return nil, 0, err
	}
	var stored struct {
		Message struct {
			Seq  uint64 `json:"seq"`
			Data []byte `json:"data"`
		} `json:"message"`
	}
	switch code, err := apiAnswer(m, &stored); {
	case code == int(jetstream.JSErrCodeStreamNotFound), code == int(jetstream.JSErrCodeMessageNotFound):
		return nil, 0, nil
	case err != nil:
		return nil, 0, s.apiError("reading bindings", err)
	}
	return stored.Message.Data, stored.Message.Seq, nil
}

// Store implements [kit.Records].
func (r records) Store(ctx context.Context, exchange string, record []byte, revision uint64) error {
	s, err := r.d.live(ctx)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		m := &nats.Msg{Subject: bindingsPrefix + token(exchange), Data: record, Header: nats.Header{}}
		m.Header.Set(nats.ExpectedLastSubjSeqHdr, strconv.FormatUint(revision, 10))
		back, err := s.askMessage(ctx, m)
		if err != nil {
			return err
		}
		if noResponders(back) && try == 0 {
			if err := r.make(ctx, s); err != nil {
				return err
			}
			continue
		}
		switch code, err := apiAnswer(back, nil); {
		case code == int(jetstream.JSErrCodeStreamWrongLastSequence), code == int(jetstream.JSErrCodeStreamWrongLastSequenceConstant):
			return kit.ErrChanged
		case code == int(jetstream.JSErrCodeStreamMessageExceedsMaximum):
			return fmt.Errorf("jetstream: the bindings of exchange %q: %w", exchange, adapters.ErrTooLarge)
		case err != nil:
			return s.apiError("writing bindings", err)
		}
		return nil
	}
}

func (r records) make(ctx context.Context, s *session) error {
	_, err := s.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: bindingsStream, Subjects: []string{bindingsPrefix + "*"}, Storage: jetstream.FileStorage,
		MaxMsgsPerSubject: 1, Replicas: r.d.config.replicas, Description: "Motif: the bindings of exchanges",
	})
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return s.apiError("making the stream of bindings", err)
	}
	return nil
}
