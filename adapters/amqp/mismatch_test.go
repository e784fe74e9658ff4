package amqp

import (
	"strings"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// TestMismatchNamesTheOption: who declares a queue otherwise than it is learns in which option,
// and what to do.
func TestMismatchNamesTheOption(t *testing.T) {
	d := connect(t)
	full := adapters.QueueSpec{DeadLetter: "letters", MaxLength: 10, Overflow: adapters.DropHead, MessageTTL: time.Minute}
	for name, c := range map[string]struct {
		is, wanted adapters.QueueSpec
		says       string
	}{
		"MaxLength":           {full, adapters.QueueSpec{DeadLetter: "letters", MaxLength: 11, Overflow: adapters.DropHead, MessageTTL: time.Minute}, "differs is MaxLength"},
		"MessageTTL":          {full, adapters.QueueSpec{DeadLetter: "letters", MaxLength: 10, Overflow: adapters.DropHead}, "differs is MessageTTL"},
		"DeadLetter":          {full, adapters.QueueSpec{DeadLetter: "others", MaxLength: 10, Overflow: adapters.DropHead, MessageTTL: time.Minute}, "differs is DeadLetter"},
		"NoDeadLetter":        {adapters.QueueSpec{DeadLetter: "letters"}, adapters.QueueSpec{}, "NoDeadLetter"},
		"MaxPriority":         {adapters.QueueSpec{MaxPriority: 5}, adapters.QueueSpec{MaxPriority: 6}, "MaxPriority"},
		"of an RPC":           {adapters.QueueSpec{AutoDelete: true}, adapters.QueueSpec{MaxLength: 1}, "RPC"},
		"Partitions":          {adapters.QueueSpec{SingleActive: true}, adapters.QueueSpec{}, "differs is Partitions"},
		"a limit, or not any": {adapters.QueueSpec{MaxLength: 10}, adapters.QueueSpec{}, "MaxLength"},
	} {
		src := fromQueue(unique(t)+name, 1)
		src.Queue = c.is
		declare(t, d, src)
		src.Queue = c.wanted
		err := d.Declare(soon(t), src)
		wantErr(t, name, err, adapters.ErrMismatch)
		if text := err.Error(); !strings.Contains(text, c.says) || !strings.Contains(text, "Passive") || strings.Contains(text, "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	foreign := unique(t)
	if err := d.Do(soon(t), func(ch *amqp091.Channel) error {
		_, err := ch.QueueDeclare(foreign, true, false, false, false, amqp091.Table{"x-queue-type": "quorum", "x-expires": 3600_000})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	err := d.Declare(soon(t), fromQueue(foreign, 1))
	wantErr(t, "somebody else's queue", err, adapters.ErrMismatch)
	if !strings.Contains(err.Error(), "another client declared it") {
		t.Error(err)
	}
	x := adapters.Endpoint{Kind: adapters.Fanout, Name: unique(t)}
	declare(t, d, adapters.Source{Endpoint: x})
	x.Kind = adapters.Topic
	err = d.Declare(soon(t), adapters.Source{Endpoint: x, Keys: []string{"a"}})
	wantErr(t, "an exchange of another kind", err, adapters.ErrMismatch)
	if !strings.Contains(err.Error(), "use the pattern that fits") {
		t.Error(err)
	}
}
