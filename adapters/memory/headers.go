package memory

import (
	"fmt"
	"slices"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// headers is the kind of an exchange that routes by headers. No Source declares one: an operator
// does.
const headers = adapters.Exchange

// headerBindings is the binding table of a headers exchange.
type headerBindings []headerBinding

type headerBinding struct {
	name  string // of the binding
	queue *queue
	any   bool              // one header is enough
	want  map[string]string // without x-match
}

// bindHeaders reads the arguments of a binding as RabbitMQ does: x-match is all (or not given),
// any, all-with-x or any-with-x; the first two do not look at headers whose name begins with x-.
func bindHeaders(q *queue, args map[string]string) (headerBinding, error) {
	b := headerBinding{name: headersName(args), queue: q, want: make(map[string]string)}
	mode, withX := strings.CutSuffix(args["x-match"], "-with-x")
	switch {
	case mode == "all", args["x-match"] == "":
	case mode == "any":
		b.any = true
	default:
		return b, fmt.Errorf("memory: x-match %q, which is none of all, any, all-with-x, any-with-x: %w", args["x-match"], adapters.ErrInvalid)
	}
	for name, value := range args {
		if name != "x-match" && (withX || !strings.HasPrefix(name, "x-")) {
			b.want[name] = value
		}
	}
	return b, nil
}

// headersName is the same for the same arguments.
func headersName(args map[string]string) string { return fmt.Sprintf("%q", args) }

// match returns the queues bound for a message with these headers, each once.
func (bs headerBindings) match(of map[string]string) []*queue {
	var found []*queue
	for _, b := range bs {
		if b.matches(of) && !slices.Contains(found, b.queue) {
			found = append(found, b.queue)
		}
	}
	return found
}

// matches never finds a header whose name begins with x-: on RabbitMQ those of a publisher are sent
// under another name, for the broker takes some of them for its own.
func (b *headerBinding) matches(of map[string]string) bool {
	for name, want := range b.want {
		got, has := of[name]
		if has = has && got == want && !strings.HasPrefix(name, "x-"); has == b.any {
			return b.any
		}
	}
	return !b.any
}

// exchangeTypes are those that AMQP 0-9-1 defines.
var exchangeTypes = map[string]adapters.Kind{
	"fanout": adapters.Fanout, "direct": adapters.Direct, "topic": adapters.Topic, "headers": headers,
}

// predeclared makes the exchanges that AMQP 0-9-1 has every broker have.
func predeclared() map[string]*exchange {
	all := map[string]*exchange{"amq.match": newExchange(headers)}
	for name, kind := range exchangeTypes {
		all["amq."+name] = newExchange(kind)
	}
	return all
}

// DeclareExchange makes an exchange exist, of AMQP's type fanout, direct, topic or headers: as
// somebody else would that patterns.Exchange publishes to. Another type is ErrUnsupported, and
// another than it has ErrMismatch.
func (b *Broker) DeclareExchange(name, kind string) error {
	k, ok := exchangeTypes[kind]
	if !ok {
		return fmt.Errorf("memory: exchanges of type %q: %w", kind, adapters.ErrUnsupported)
	}
	if err := (adapters.Publication{To: adapters.Endpoint{Kind: adapters.Exchange, Name: name}}).Validate(); err != nil {
		return err
	}
	e := adapters.Endpoint{Kind: k, Name: name}
	b.control.Lock()
	defer b.control.Unlock()
	if err := b.checkExchange(e); err != nil {
		return err
	}
	if strings.HasPrefix(name, "amq.") && b.routes.exchanges[name] == nil {
		return fmt.Errorf("memory: exchange %q: names that begin with amq. are the broker's: %w", name, adapters.ErrAccess)
	}
	b.routes.mu.Lock()
	defer b.routes.mu.Unlock()
	b.makeExchange(e)
	return nil
}

// Bind binds a queue to an exchange by hand, as an operator does: to a direct one with a key, to a
// topic one with a pattern, to one of type headers with args, as RabbitMQ's arguments of a binding
// are ("x-match" and headers). What the type does not use is ignored. Without such a queue or
// exchange it returns an error that wraps ErrNotFound.
func (b *Broker) Bind(queue, exchange, key string, args map[string]string) error {
	b.control.Lock()
	defer b.control.Unlock()
	q, x := b.routes.queues[queue], b.routes.exchanges[exchange]
	switch {
	case q == nil:
		return notFound("queue", queue)
	case x == nil:
		return notFound("exchange", exchange)
	}
	to := binding{exchange: exchange, key: key}
	switch x.kind {
	case adapters.Fanout:
		to.key = ""
	case adapters.Topic:
		if err := adapters.ValidatePattern(key); err != nil {
			return err
		}
		to.key = adapters.NormalPattern(key)
	case headers:
		bound, err := bindHeaders(q, args)
		if err != nil {
			return err
		}
		to.key, to.headers = "", bound.name
		b.routes.mu.Lock()
		defer b.routes.mu.Unlock()
		if _, already := q.bindings[to]; !already {
			q.bindings[to] = struct{}{}
			x.byHeaders = append(x.byHeaders, bound)
		}
		return nil
	}
	b.routes.mu.Lock()
	defer b.routes.mu.Unlock()
	b.routes.bind(q, to)
	return nil
}
