package topology

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/motifmq/motif/adapters"
)

// Topology is what one or more applications declare, sorted by name.
type Topology struct {
	Exchanges []Exchange
	Queues    []Queue
}

// Exchange is an exchange with its kind: "fanout", "direct" or "topic".
type Exchange struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
}

// Queue is a durable queue: of a work queue, of a group, or for dead letters.
type Queue struct {
	Name    string `json:"name"`
	Passive bool   `json:"passive,omitempty"` // it is used as it stands, whatever its properties

	// Of the queue of a group: what it is bound to.
	Exchange string   `json:"exchange,omitempty"`
	Group    string   `json:"group,omitempty"`
	Keys     []string `json:"keys,omitempty"`

	Spec adapters.QueueSpec `json:"-"` // in JSON its fields are the queue's own
}

// Version is the version of the JSON that this package writes, and the only one that it reads.
const Version = 1

// file is a topology as JSON.
type file struct {
	Version   int         `json:"version"`
	Exchanges []Exchange  `json:"exchanges"`
	Queues    []queueJSON `json:"queues"`
}

type queueJSON struct {
	Queue
	DeadLetter   string `json:"dead_letter,omitempty"`
	MaxLength    int    `json:"max_length,omitempty"`
	DropOldest   bool   `json:"drop_oldest,omitempty"`
	MessageTTL   string `json:"message_ttl,omitempty"` // as time.Duration has it: "1h30m0s"
	MaxPriority  uint8  `json:"max_priority,omitempty"`
	AutoDelete   bool   `json:"auto_delete,omitempty"`
	SingleActive bool   `json:"single_active,omitempty"`
}

// MarshalJSON implements [json.Marshaler]. The same topology is always the same text.
func (t Topology) MarshalJSON() ([]byte, error) {
	f := file{Version: Version, Exchanges: slices.Concat([]Exchange{}, t.Exchanges), Queues: []queueJSON{}}
	for _, q := range t.Queues {
		j := queueJSON{
			Queue: q, DeadLetter: q.Spec.DeadLetter, MaxLength: q.Spec.MaxLength, DropOldest: q.Spec.Overflow == adapters.DropHead,
			MaxPriority: q.Spec.MaxPriority, AutoDelete: q.Spec.AutoDelete, SingleActive: q.Spec.SingleActive,
		}
		if q.Spec.MessageTTL > 0 {
			j.MessageTTL = q.Spec.MessageTTL.String()
		}
		f.Queues = append(f.Queues, j)
	}
	return json.Marshal(f)
}

// UnmarshalJSON implements [json.Unmarshaler]. What it does not know, or cannot be, is an error
// that wraps adapters.ErrInvalid.
func (t *Topology) UnmarshalJSON(b []byte) error {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return invalid("no topology: %v", err)
	}
	if version.Version != Version {
		return invalid("a topology of version %d, and this program reads version %d", version.Version, Version)
	}
	var f file
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return invalid("no topology: %v", err)
	}
	read := Topology{Exchanges: f.Exchanges}
	for _, j := range f.Queues {
		q := j.Queue
		q.Spec = adapters.QueueSpec{DeadLetter: j.DeadLetter, MaxLength: j.MaxLength, MaxPriority: j.MaxPriority, AutoDelete: j.AutoDelete, SingleActive: j.SingleActive}
		if j.DropOldest {
			q.Spec.Overflow = adapters.DropHead
		}
		if j.MessageTTL != "" {
			ttl, err := time.ParseDuration(j.MessageTTL)
			if err != nil {
				return invalid("queue %q: %v", q.Name, err)
			}
			q.Spec.MessageTTL = ttl
		}
		read.Queues = append(read.Queues, q)
	}
	merged, err := Merge(read)
	if err == nil {
		*t = merged
	}
	return err
}

// Read reads one topology in JSON.
func Read(r io.Reader) (t Topology, err error) {
	b, err := io.ReadAll(r)
	if err == nil {
		err = t.UnmarshalJSON(b)
	}
	return t, err
}

// Merge returns what several applications declare together. Two that do not agree about a queue or
// an exchange could not both run: that is adapters.ErrMismatch.
func Merge(all ...Topology) (Topology, error) {
	var c collection
	for _, t := range all {
		for _, e := range t.Exchanges {
			if err := c.addExchange(e); err != nil {
				return Topology{}, err
			}
		}
	}
	for _, t := range all {
		for _, q := range t.Queues {
			if err := c.addQueue(q); err != nil {
				return Topology{}, err
			}
		}
	}
	t := c.topology()
	for _, q := range t.Queues {
		if s, err := t.source(q); err != nil {
			return Topology{}, err
		} else if s.QueueName() != q.Name {
			return Topology{}, invalid("queue %q of group %q of exchange %q, whose queue is %q", q.Name, q.Group, q.Exchange, s.QueueName())
		}
	}
	return t, nil
}

// Find returns a queue by its name.
func (t Topology) Find(queue string) (Queue, bool) {
	i := slices.IndexFunc(t.Queues, func(q Queue) bool { return q.Name == queue })
	if i < 0 {
		return Queue{}, false
	}
	return t.Queues[i], true
}

// Source returns what a driver declares for a queue of the topology.
func (t Topology) Source(queue string) (adapters.Source, error) {
	q, ok := t.Find(queue)
	if !ok {
		return adapters.Source{}, invalid("queue %q is not in the topology", queue)
	}
	return t.source(q)
}

func (t Topology) source(q Queue) (adapters.Source, error) {
	s := adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: q.Name}, Queue: q.Spec, Passive: q.Passive}
	if q.Group != "" || q.Exchange != "" {
		i := slices.IndexFunc(t.Exchanges, func(e Exchange) bool { return e.Name == q.Exchange })
		if i < 0 {
			return s, invalid("queue %q is of exchange %q, which is not declared", q.Name, q.Exchange)
		}
		e, err := t.Exchanges[i].endpoint()
		if err != nil {
			return s, err
		}
		s.Endpoint, s.Group, s.Keys = e, q.Group, q.Keys
	}
	if err := s.Validate(); err != nil {
		return s, fmt.Errorf("topology: queue %q: %w", q.Name, err)
	}
	return s, nil
}

func (e Exchange) endpoint() (adapters.Endpoint, error) {
	for _, kind := range []adapters.Kind{adapters.Fanout, adapters.Direct, adapters.Topic} {
		if kind.String() == e.Kind {
			return adapters.Endpoint{Kind: kind, Name: e.Name}, nil
		}
	}
	return adapters.Endpoint{}, invalid("exchange %q of kind %q, which is not fanout, direct or topic", e.Name, e.Kind)
}

// collection is a topology in the making.
type collection struct {
	exchanges map[string]Exchange
	queues    map[string]Queue
}

func (c *collection) addExchange(e Exchange) error {
	if _, err := e.endpoint(); err != nil {
		return err
	}
	if had, ok := c.exchanges[e.Name]; ok && had != e {
		return fmt.Errorf("topology: %w: exchange %q is declared as %s and as %s", adapters.ErrMismatch, e.Name, had.Kind, e.Kind)
	}
	if c.exchanges == nil {
		c.exchanges = map[string]Exchange{}
	}
	c.exchanges[e.Name] = e
	return nil
}

// addQueue adds a queue and its dead-letter queue. One that somebody uses as it stands is as
// somebody else declares it, and the bindings of a group add up.
func (c *collection) addQueue(q Queue) error {
	if c.queues == nil {
		c.queues = map[string]Queue{}
	}
	had, known := c.queues[q.Name]
	switch {
	case !known || had.Passive && !q.Passive:
	case q.Passive:
		return nil
	case had.Spec != q.Spec || had.Exchange != q.Exchange || had.Group != q.Group:
		return fmt.Errorf("topology: %w: queue %q is declared with different properties, %+v and %+v", adapters.ErrMismatch, q.Name, had.Spec, q.Spec)
	}
	q.Keys = slices.Concat(q.Keys, had.Keys)
	slices.Sort(q.Keys)
	q.Keys = slices.Compact(q.Keys)
	c.queues[q.Name] = q
	if q.Spec.DeadLetter != "" {
		return c.addQueue(Queue{Name: q.Spec.DeadLetter})
	}
	return nil
}

func (c *collection) topology() (t Topology) {
	for _, e := range c.exchanges {
		t.Exchanges = append(t.Exchanges, e)
	}
	for _, q := range c.queues {
		t.Queues = append(t.Queues, q)
	}
	slices.SortFunc(t.Exchanges, func(a, b Exchange) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Queues, func(a, b Queue) int { return cmp.Compare(a.Name, b.Name) })
	return t
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("topology: %w: %s", adapters.ErrInvalid, fmt.Sprintf(format, args...))
}
