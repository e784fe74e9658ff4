package otel

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// maxPoints bounds the combinations of attributes, for programs that make up names of queues.
const maxPoints = 2000

// otherDestination stands for the names that come after that.
const otherDestination = "_OTHER"

// operation is something done with a destination.
type operation struct {
	name, kind  string // as semconv.go has them
	destination string // a queue or an exchange
	group       string
	method      bool // the destination is a function, called or served
	span        trace.SpanKind
}

// prepared is what the spans of an operation have in common, made once.
type prepared struct {
	operation
	spanName string
	start    []trace.SpanStartOption
}

// point is what a measurement is about: an operation and how it ended.
type point struct {
	operation
	errorType string
	result    string
}

// attributes are those of a measurement, as the API takes them.
type attributes struct {
	set    attribute.Set
	add    []metric.AddOption
	record []metric.RecordOption
}

// destinations remembers what is prepared. To look it up allocates nothing.
type destinations struct {
	system string

	operations memo[operation, *prepared]
	points     memo[point, *attributes]
}

func (d *destinations) operation(op operation) *prepared {
	if p, ok := d.operations.get(op); ok {
		return p
	}
	p := &prepared{operation: op, spanName: op.name + " " + op.destination}
	if op.method {
		p.spanName = op.destination
	}
	p.start = []trace.SpanStartOption{trace.WithSpanKind(op.span), trace.WithAttributes(d.describe(op)...)}
	p, _ = d.operations.add(op, p)
	return p
}

// at returns the attributes of a measurement.
func (d *destinations) at(p point) *attributes {
	if a, ok := d.points.get(p); ok {
		return a
	}
	a, ok := d.points.add(p, d.measurement(p))
	if !ok {
		p.destination, p.group = otherDestination, ""
		a = d.measurement(p)
	}
	return a
}

func (d *destinations) measurement(p point) *attributes {
	all := d.describe(p.operation)
	if p.errorType != "" {
		all = append(all, keyErrorType.String(p.errorType))
	}
	if p.result != "" {
		all = append(all, keyResult.String(p.result))
	}
	set := attribute.NewSet(all...)
	o := metric.WithAttributeSet(set)
	return &attributes{set, []metric.AddOption{o}, []metric.RecordOption{o}}
}

func (d *destinations) describe(op operation) []attribute.KeyValue {
	if op.method {
		return []attribute.KeyValue{keyRPCSystem.String(systemRPC), keyRPCMethod.String(op.destination)}
	}
	all := []attribute.KeyValue{
		keySystem.String(d.system), keyOperationName.String(op.name), keyOperationType.String(op.kind), keyDestination.String(op.destination),
	}
	if op.group != "" {
		all = append(all, keyGroup.String(op.group))
	}
	return all
}

// memo is a map that grows to maxPoints.
type memo[K comparable, V any] struct {
	mu    sync.RWMutex
	known map[K]V
}

func (m *memo[K, V]) get(key K) (V, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	v, ok := m.known[key]
	return v, ok
}

// add remembers a value, and returns it or the one that is there already. It reports false, and
// does not, when there are too many.
func (m *memo[K, V]) add(key K, v V) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if there, ok := m.known[key]; ok {
		return there, true
	}
	if len(m.known) >= maxPoints {
		return v, false
	}
	if m.known == nil {
		m.known = map[K]V{}
	}
	m.known[key] = v
	return v, true
}
