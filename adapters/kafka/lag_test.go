package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/kit"
)

// cluster is one of brokers of which each knows one topic as it pleases: real ones lag for so short
// a time that no test could rely on it. It answers what a client asks to find a topic, and to write
// to it.
type cluster struct {
	t         *testing.T
	listeners []net.Listener

	mu      sync.Mutex
	ids     [][16]byte // of the topic, by broker
	refuses int        // how many writes the leader refuses yet, for it does not know the topic
	written int
}

// What a broker may know of the topic: none, or one of two IDs; or it cannot tell.
const (
	none byte = iota
	old
	anew
	unsure
)

func newCluster(t *testing.T, ids ...byte) *cluster {
	c := &cluster{t: t}
	for node, id := range ids {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.listeners, c.ids = append(c.listeners, l), append(c.ids, [16]byte{id})
		var serving sync.WaitGroup
		serving.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				serving.Go(func() { c.serve(conn, node) })
				t.Cleanup(func() { _ = conn.Close() })
			}
		})
		t.Cleanup(func() { _ = l.Close(); serving.Wait() })
	}
	return c
}

// serve answers the requests on a connection to a broker.
func (c *cluster) serve(conn net.Conn, node int) {
	for {
		var head [4]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint32(head[:]))
		if _, err := io.ReadFull(conn, b); err != nil {
			return
		}
		req := kmsg.RequestForKey(int16(binary.BigEndian.Uint16(b)))
		version, correlation := int16(binary.BigEndian.Uint16(b[2:])), b[4:8]
		req.SetVersion(version)
		body := b[10+binary.BigEndian.Uint16(b[8:]):] // behind the ID of the client
		if req.IsFlexible() {
			body = body[1:] // no tags
		}
		if err := req.ReadFrom(body); err != nil {
			c.t.Errorf("a request of %T: %v", req, err)
			return
		}
		answer := c.answer(req, node)
		out := append(make([]byte, 4), correlation...)
		if answer.IsFlexible() && answer.Key() != kmsg.ApiVersions.Int16() {
			out = append(out, 0)
		}
		out = answer.AppendTo(out)
		binary.BigEndian.PutUint32(out, uint32(len(out)-4))
		if _, err := conn.Write(out); err != nil {
			return
		}
	}
}

func (c *cluster) answer(req kmsg.Request, node int) kmsg.Response {
	c.mu.Lock()
	defer c.mu.Unlock()
	answer := req.ResponseKind()
	answer.SetVersion(req.GetVersion())
	switch req := req.(type) {
	case *kmsg.ApiVersionsRequest:
		for key, most := range map[kmsg.Key]int16{kmsg.ApiVersions: 3, kmsg.Metadata: 12, kmsg.InitProducerID: 4, kmsg.Produce: 9} {
			answer := answer.(*kmsg.ApiVersionsResponse)
			answer.ApiKeys = append(answer.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: key.Int16(), MaxVersion: most})
		}
	case *kmsg.MetadataRequest:
		c.describe(req, answer.(*kmsg.MetadataResponse), node)
	case *kmsg.InitProducerIDRequest:
		answer.(*kmsg.InitProducerIDResponse).ProducerID = 1
	case *kmsg.ProduceRequest:
		p := kmsg.NewProduceResponseTopicPartition()
		if c.refuses > 0 {
			c.refuses--
			p.ErrorCode = kerr.UnknownTopicOrPartition.Code
		} else {
			c.written++
		}
		answer.(*kmsg.ProduceResponse).Topics = []kmsg.ProduceResponseTopic{{Topic: req.Topics[0].Topic, Partitions: []kmsg.ProduceResponseTopicPartition{p}}}
	}
	return answer
}

func (c *cluster) describe(req *kmsg.MetadataRequest, answer *kmsg.MetadataResponse, node int) {
	for i, l := range c.listeners {
		b := kmsg.NewMetadataResponseBroker()
		b.NodeID, b.Host, b.Port = int32(i), "127.0.0.1", int32(l.Addr().(*net.TCPAddr).Port)
		answer.Brokers = append(answer.Brokers, b)
	}
	for _, asked := range req.Topics {
		topic := kmsg.NewMetadataResponseTopic()
		topic.Topic, topic.TopicID = asked.Topic, c.ids[node]
		switch topic.TopicID[0] {
		case none:
			topic.ErrorCode = kerr.UnknownTopicOrPartition.Code
		case unsure:
			topic.ErrorCode = kerr.LeaderNotAvailable.Code
		default:
			p := kmsg.NewMetadataResponseTopicPartition()
			p.Replicas, p.ISR = []int32{0}, []int32{0}
			topic.Partitions = []kmsg.MetadataResponseTopicPartition{p}
		}
		answer.Topics = append(answer.Topics, topic)
	}
}

// driver returns one that can look for a topic, and write to it.
func (c *cluster) driver() *Driver {
	var seeds []string
	for _, l := range c.listeners {
		seeds = append(seeds, l.Addr().String())
	}
	config := config{brokers: seeds}
	client, err := kgo.NewClient(append(config.common(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.UnknownTopicRetries(1))...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(client.Close)
	d := &Driver{client: client, tasks: kit.NewTasks(), topics: map[string]topic{}, window: make(chan struct{}, 1), life: context.Background()}
	c.t.Cleanup(func() { d.tasks.Close(); d.tasks.Wait() })
	return d
}

// TestBrokersThatLag: what one broker does not know yet, or knows still, is not taken for the
// truth, and what not all can tell is an error. Whom the client asks first is its own affair.
func TestBrokersThatLag(t *testing.T) {
	for name, test := range map[string]struct {
		knows  []byte // of each broker
		before byte   // what the driver knew
		bound  byte   // what the binding is of
		want   byte   // what look finds
		gone   bool
		err    error // of look and isGone
	}{
		"all know it":                {knows: []byte{old, old, old}, bound: old, want: old},
		"one has not heard of it":    {knows: []byte{none, old, old}, bound: old, want: old},
		"one has heard of it":        {knows: []byte{none, none, old}, bound: old, want: old},
		"it was deleted":             {knows: []byte{none, none, none}, before: old, bound: old, gone: true, err: adapters.ErrNotFound},
		"one has not heard of that":  {knows: []byte{none, none, old}, before: old, bound: old, want: old},
		"it was made anew":           {knows: []byte{anew, anew, anew}, before: old, bound: old, want: anew, gone: true},
		"made anew, and one is late": {knows: []byte{old, anew, anew}, before: anew, bound: anew, want: anew},
		"made anew, and we are late": {knows: []byte{old, anew, anew}, before: old, bound: anew, want: old},
		"one cannot tell":            {knows: []byte{none, none, unsure}, bound: old, err: adapters.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for first := range test.knows {
				c := newCluster(t, slices.Concat(test.knows[first:], test.knows[:first])...)
				d := c.driver()
				if test.before > 0 {
					d.topics["t"] = topic{name: "t", id: [16]byte{test.before}}
				}
				at := target{"t", &kit.Bound{Queue: "q", ID: boundID([16]byte{test.bound})}}
				found, err := d.look(t.Context(), "t")
				if !errors.Is(err, test.err) || (err != nil) != (test.err != nil) || found.id != [16]byte{test.want} {
					t.Errorf("look: %v, %v", found.id, err)
				}
				gone, err := d.isGone(t.Context(), at)
				if gone != test.gone || err != nil && !errors.Is(err, test.err) {
					t.Errorf("isGone: %v, %v", gone, err)
				}
			}
		})
	}
}

// TestLeaderThatLags: what the leader of a new topic does not know yet is written once it does.
func TestLeaderThatLags(t *testing.T) {
	c := newCluster(t, old)
	d := c.driver()
	c.refuses = 12
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := d.produceAgain(ctx, &kgo.Record{Topic: "t", Value: []byte("a")}); err != nil || c.written != 1 {
		t.Errorf("%d written, %v", c.written, err)
	}
	c.ids[0], c.refuses = [16]byte{none}, 1000
	if err := d.produceAgain(ctx, &kgo.Record{Topic: "t", Value: []byte("a")}); !errors.Is(err, adapters.ErrNotFound) {
		t.Errorf("of a topic that is gone: %v", err)
	}
}
