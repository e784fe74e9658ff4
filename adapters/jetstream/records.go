package jetstream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// records keeps bindings in a stream, with a subject for each exchange and only its last message.
type records struct{ d *Driver }

// headerName is the header of a record with its name in Base64: the subject may be a hash.
const headerName = "Motif-Name"

// Load implements [kit.Records]. The leader of the stream answers.
func (r records) Load(ctx context.Context, exchange string) ([]byte, uint64, error) {
	s, err := r.d.live(ctx)
	if err != nil {
		return nil, 0, err
	}
	m, err := s.lastRecord(ctx, bindingsPrefix+token(exchange))
	if m == nil || err != nil {
		return nil, 0, err
	}
	return m.Data, m.Seq, nil
}

// record is what the server has stored for a subject.
type record struct {
	Seq     uint64 `json:"seq"`
	Headers []byte `json:"hdrs"`
	Data    []byte `json:"data"`
}

// lastRecord returns the record of a subject, or nil if there is none.
func (s *session) lastRecord(ctx context.Context, subject string) (*record, error) {
	question, _ := json.Marshal(map[string]string{"last_by_subj": subject})
	m, err := patient(ctx, func(ctx context.Context) (*nats.Msg, error) {
		return s.ask(ctx, "$JS.API.STREAM.MSG.GET."+bindingsStream, question)
	})
	if err != nil {
		return nil, err
	}
	var stored struct {
		Message record `json:"message"`
	}
	switch code, err := apiAnswer(m, &stored); {
	case code == int(jetstream.JSErrCodeStreamNotFound), code == int(jetstream.JSErrCodeMessageNotFound):
		return nil, nil
	case err != nil:
		return nil, s.apiError("reading bindings", err)
	}
	return &stored.Message, nil
}

// exchanges returns the names of all exchanges.
func (s *session) exchanges(ctx context.Context) (names []string, err error) {
	info, err := s.js.subjects(ctx, bindingsStream, bindingsPrefix+"*")
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, s.apiError("listing exchanges", err)
	}
	for subject := range info.State.Subjects {
		m, err := s.lastRecord(ctx, subject)
		if err != nil {
			return nil, err
		}
		if m == nil {
			continue
		}
		header, err := nats.DecodeHeadersMsg(m.Headers)
		if err != nil {
			return nil, fmt.Errorf("jetstream: the record of %s: %w: %w", subject, adapters.ErrMismatch, err)
		}
		name, err := base64.StdEncoding.DecodeString(header.Get(headerName))
		if err == nil && len(name) > 0 && !strings.HasPrefix(string(name), membersPrefix) {
			names = append(names, string(name))
		}
	}
	return names, nil
}

// Store implements [kit.Records].
func (r records) Store(ctx context.Context, exchange string, record []byte, revision uint64) error {
	s, err := r.d.live(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	wait := kit.Backoff{Min: 5 * time.Millisecond, Max: 200 * time.Millisecond}
	for {
		m := &nats.Msg{Subject: bindingsPrefix + token(exchange), Data: record, Header: nats.Header{}}
		m.Header.Set(headerName, base64.StdEncoding.EncodeToString([]byte(exchange)))
		m.Header.Set(nats.ExpectedLastSubjSeqHdr, strconv.FormatUint(revision, 10))
		back, err := s.askMessage(ctx, m)
		if err != nil {
			return err
		}
		if noResponders(back) { // there is no such stream, or in a cluster none that listens yet
			if err := r.make(ctx, s); err != nil {
				return err
			}
			select {
			case <-time.After(wait.Next()):
				continue
			case <-ctx.Done():
				return fmt.Errorf("jetstream: writing bindings: %w: %w", adapters.ErrUnavailable, ctx.Err())
			}
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
