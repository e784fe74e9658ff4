package model

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

// An op is one operation of a sequence. As text it is a verb, its objects, and
// options, values quoted where they need to be:
//
//	declare  queue q1 max=2 overflow=drop dead=q1.dead
//	unbind   topic top group=g key=a.*
//	consume  c1 queue q1 prefetch=2 by=b
//	get      queue q1 passive
//	publish  topic top id=m1 id=m2 key="a..b" mandatory
//	take     q1 2                   receive what is due, at most so many
//	ack      q1 m1                  or requeue, reject: a message in hand
//	stop     c1
//	purge    q1                     or delete
//	cut      a                      the connections of one client
//	restart                         the broker
//
// The clients are a, who is meant unless by= says otherwise, and b. A queue
// goes by its name, a private one by its consumer's.
type op struct {
	verb   string
	name   string // the consumer of consume and stop, the queue of take, ack ..., the client of cut
	ids    []string
	n      int // of take
	by     string
	source adapters.Source
	pub    adapters.Publication
	meta   map[string]string
}

// objects says how many words after the verb are no options.
var objects = map[string]int{
	"declare": 2, "unbind": 2, "consume": 3, "get": 2, "publish": 2, "take": 2, "ack": 2, "requeue": 2, "reject": 2,
	"stop": 1, "purge": 1, "delete": 1, "cut": 1, "restart": 0,
}

func (o op) String() string {
	w := []string{o.verb}
	add := func(name, value string) {
		if value != "" {
			w = append(w, name+"="+quote(value))
		}
	}
	flag := func(name string, set bool) {
		if set {
			w = append(w, name)
		}
	}
	number := func(name string, n int) {
		if n != 0 {
			add(name, strconv.Itoa(n))
		}
	}
	span := func(name string, d time.Duration) {
		if d != 0 {
			add(name, d.String())
		}
	}
	switch o.verb {
	case "declare", "unbind", "consume", "get":
		s := o.source
		if o.verb == "consume" {
			w = append(w, o.name)
		}
		w = append(w, s.Kind.String(), quote(cmp.Or(s.Name, "-")))
		add("group", s.Group)
		for _, key := range s.Keys {
			w = append(w, "key="+quote(key))
		}
		number("prefetch", s.Prefetch)
		number("max", s.Queue.MaxLength)
		if s.Queue.Overflow == adapters.DropHead {
			add("overflow", "drop")
		}
		span("ttl", s.Queue.MessageTTL)
		number("priorities", int(s.Queue.MaxPriority))
		add("dead", s.Queue.DeadLetter)
		flag("autodelete", s.Queue.AutoDelete)
		flag("passive", s.Passive)
	case "publish":
		p := o.pub
		w = append(w, p.To.Kind.String(), quote(p.To.Name))
		for _, id := range o.ids {
			add("id", id)
		}
		add("key", p.Key)
		number("priority", int(p.Priority))
		span("ttl", p.TTL)
		span("delay", p.Delay)
		number("attempt", p.Attempt)
		add("correlation", p.CorrelationID)
		add("type", p.ContentType)
		add("reply", p.ReplyTo)
		flag("transient", p.Transient)
		flag("mandatory", p.Mandatory)
		flag("lasting", p.Lasting)
		for _, key := range slices.Sorted(maps.Keys(o.meta)) {
			add("meta", key+"="+o.meta[key])
		}
	case "take":
		w = append(w, o.name, strconv.Itoa(o.n))
	case "ack", "requeue", "reject":
		w = append(w, o.name, o.ids[0])
	default:
		flag(o.name, o.name != "")
	}
	add("by", o.by)
	return strings.Join(w, " ")
}

// quote leaves a plain word as it is.
func quote(s string) string {
	if s == "" || strings.ContainsAny(s, " \"\\=") || strconv.Quote(s) != `"`+s+`"` {
		return strconv.Quote(s)
	}
	return s
}

// words splits a line at spaces outside of quotes, and takes these away.
func words(line string) ([]string, error) {
	var all []string
	var word strings.Builder
	begun := false
	for line != "" {
		switch {
		case line[0] == '"':
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, err
			}
			plain, _ := strconv.Unquote(quoted)
			word.WriteString(plain)
			line, begun = line[len(quoted):], true
			continue
		case line[0] != ' ' && line[0] != '\t':
			word.WriteByte(line[0])
			begun = true
		case begun:
			all = append(all, word.String())
			word.Reset()
			begun = false
		}
		line = line[1:]
	}
	if begun {
		all = append(all, word.String())
	}
	return all, nil
}

func parseOp(line string) (o op, err error) {
	w, err := words(line)
	if err != nil {
		return o, err
	}
	n, known := objects[w[0]]
	if !known || len(w) < n+1 {
		return o, fmt.Errorf("verb %q with %d words", w[0], len(w)-1)
	}
	o.verb = w[0]
	w, options := w[1:n+1], w[n+1:]
	switch o.verb {
	case "consume":
		o.name, w = w[0], w[1:]
		fallthrough
	case "declare", "unbind", "get":
		o.source.Name = strings.TrimPrefix(w[1], "-")
		o.source.Kind, err = parseKind(w[0])
	case "publish":
		o.pub.To.Name = w[1]
		o.pub.To.Kind, err = parseKind(w[0])
	case "take":
		o.name = w[0]
		o.n, err = strconv.Atoi(w[1])
	case "ack", "requeue", "reject":
		o.name, o.ids = w[0], w[1:]
	case "restart":
	default:
		o.name = w[0]
	}
	for _, option := range options {
		if err == nil {
			err = o.set(option)
		}
	}
	return o, err
}

func parseKind(name string) (adapters.Kind, error) {
	for k := adapters.Queue; k <= adapters.Reply; k++ {
		if k.String() == name {
			return k, nil
		}
	}
	return 0, fmt.Errorf("no kind %q", name)
}

// set takes one option.
func (o *op) set(option string) (err error) {
	name, value, _ := strings.Cut(option, "=")
	number := func() int {
		var n int
		n, err = strconv.Atoi(value)
		return n
	}
	span := func() time.Duration {
		var d time.Duration
		d, err = time.ParseDuration(value)
		return d
	}
	s, p, q := &o.source, &o.pub, &o.source.Queue
	publishes := o.verb == "publish"
	switch name {
	case "id":
		o.ids = append(o.ids, value)
	case "key":
		if p.Key = value; !publishes {
			p.Key = ""
			s.Keys = append(s.Keys, value)
		}
	case "ttl":
		if publishes {
			p.TTL = span()
		} else {
			q.MessageTTL = span()
		}
	case "by":
		o.by = value
	case "group":
		s.Group = value
	case "prefetch":
		s.Prefetch = number()
	case "max":
		q.MaxLength = number()
	case "overflow":
		q.Overflow = adapters.DropHead
	case "priorities":
		q.MaxPriority = uint8(number())
	case "dead":
		q.DeadLetter = value
	case "autodelete":
		q.AutoDelete = true
	case "passive":
		s.Passive = true
	case "priority":
		p.Priority = uint8(number())
	case "delay":
		p.Delay = span()
	case "attempt":
		p.Attempt = number()
	case "correlation":
		p.CorrelationID = value
	case "type":
		p.ContentType = value
	case "reply":
		p.ReplyTo = value
	case "transient":
		p.Transient = true
	case "mandatory":
		p.Mandatory = true
	case "lasting":
		p.Lasting = true
	case "meta":
		key, text, _ := strings.Cut(value, "=")
		if o.meta == nil {
			o.meta = make(map[string]string)
		}
		o.meta[key] = text
	default:
		return fmt.Errorf("no option %q", option)
	}
	return err
}

// A script is a sequence as it is kept in a file: the operations, and what else
// it takes to play it.
type script struct {
	comment []string // lines that begin with #
	on      string   // the type of RabbitMQ's queues: classic or quorum
	ops     []op
	version memory.Version // of RabbitMQ; not in the file, for a case is for all
}

func (s script) has(verb string) bool {
	return slices.ContainsFunc(s.ops, func(o op) bool { return o.verb == verb })
}

func (s script) String() string {
	var b strings.Builder
	for _, line := range s.comment {
		fmt.Fprintln(&b, line)
	}
	fmt.Fprintln(&b, "on", s.on)
	for _, o := range s.ops {
		fmt.Fprintln(&b, o)
	}
	return b.String()
}

func parseScript(text string) (s script, err error) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		switch {
		case line == "":
		case strings.HasPrefix(line, "#"):
			s.comment = append(s.comment, line)
		case strings.HasPrefix(line, "on "):
			s.on = strings.TrimSpace(line[3:])
		default:
			o, err := parseOp(line)
			if err != nil {
				return s, fmt.Errorf("line %d: %w: %s", n, err, line)
			}
			s.ops = append(s.ops, o)
		}
	}
	if s.on != "classic" && s.on != "quorum" {
		return s, fmt.Errorf("it says to be on %q, want classic or quorum", s.on)
	}
	return s, nil
}

func TestScriptsAreReadAsTheyAreWritten(t *testing.T) {
	for seed := range uint64(200) {
		s := generate(t, seed, "classic", seed%2 == 0, "")
		s.comment = []string{"# why"}
		read, err := parseScript(s.String())
		if err != nil || !reflect.DeepEqual(s, read) {
			t.Fatalf("seed %d: %v, wrote\n%s\nread\n%s", seed, err, s, read)
		}
	}
	for _, bad := range []string{"on classic\njump", "on classic\ntake q1", "on classic\ntake q1 x", "on classic\ndeclare heap q1", "on classic\npublish queue q1 ttl=1", "on classic\nrestart now", "restart", "on classic\nack q1 \"m"} {
		if s, err := parseScript(bad); err == nil {
			t.Errorf("%q was read as %q", bad, s)
		}
	}
}
