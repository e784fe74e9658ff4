package amqp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/rabbitmq/amqp091-go"

	"github.com/motifmq/motif/adapters"
)

// Compare implements [adapters.Inspector]. RabbitMQ tells the properties of a queue to nobody but
// the users of its management API. It does say which one is the first that keeps a queue from being
// declared, and which value that has. So the queue is declared, each time with one more property as
// it is, until that works. Nothing changes by it, unless the queue is deleted in the very moment:
// then it is there again. The user needs the right to configure it.
func (d *Driver) Compare(ctx context.Context, e adapters.Endpoint, spec adapters.QueueSpec) ([]adapters.Difference, error) {
	valid := cmp.Or(adapters.ValidateCompare(e, spec), validateSource(adapters.Source{Endpoint: adapters.Endpoint{Kind: adapters.Queue, Name: "q"}, Queue: spec}))
	return askAbout(ctx, d, "compare", e, valid, func(conn *connection) ([]adapters.Difference, error) {
		if e.Kind == adapters.Queue {
			return conn.compareQueue(e.Name, spec)
		}
		return conn.compareExchange(e)
	})
}

// maxDifferences is more than RabbitMQ compares.
const maxDifferences = 20

func (conn *connection) compareQueue(name string, spec adapters.QueueSpec) (found []adapters.Difference, err error) {
	_, err = onChannel(conn, func(ch *amqp091.Channel) (amqp091.Queue, error) { return conn.passive(ch, name) })
	if err != nil {
		return nil, err
	}
	args, autoDelete := queueArguments(spec, conn.queueType(name, spec)), spec.AutoDelete
	for range maxDifferences {
		_, err = onChannel(conn, func(ch *amqp091.Channel) (amqp091.Queue, error) {
			return conn.declareOnce(ch, name, autoDelete, args)
		})
		switch {
		case err == nil:
			return found, nil
		case conn.isStarting(name, err):
			return nil, errDeclareAgain
		}
		if conn.keepOtherType(name, spec, err) { // which Declare accepts
			args, found = queueArguments(spec, conn.queueType(name, spec)), nil
			continue
		}
		property, declared, actual, ok := conn.inequivalent(err, "queue", name)
		if !ok {
			return nil, err
		}
		if declared.unreadable && args[property] != nil {
			declared.text = fmt.Sprint(args[property])
		}
		found = append(found, adapters.Difference{Property: property, Declared: declared.text, Actual: actual.text})
		switch {
		case property == "auto_delete":
			autoDelete = !autoDelete
		case !strings.HasPrefix(property, "x-") || actual.unreadable:
			return found, nil // all else cannot be told apart from it
		case property == "x-queue-type" && actual.value == nil:
			args[property] = string(Classic)
		case actual.value == nil:
			delete(args, property)
		default:
			args[property] = actual.value
		}
	}
	return found, nil
}

func (conn *connection) compareExchange(e adapters.Endpoint) ([]adapters.Difference, error) {
	return onChannel(conn, func(ch *amqp091.Channel) ([]adapters.Difference, error) {
		if err := ch.ExchangeDeclarePassive(e.Name, e.Kind.String(), true, false, false, false, nil); err != nil {
			return nil, err
		}
		err := conn.declareExchange(ch, e)
		if errors.Is(err, errDeclareAgain) { // it differs in what does not matter
			return nil, nil
		}
		if property, declared, actual, ok := conn.inequivalent(err, "exchange", e.Name); ok {
			return []adapters.Difference{{Property: property, Declared: declared.text, Actual: actual.text}}, nil
		}
		return nil, err
	})
}

// argument is a value as RabbitMQ quotes it in a refusal.
type argument struct {
	text       string // "none" for none
	value      any    // nil for none
	unreadable bool
}

// inequivalent reads a refusal to declare something that exists with other properties:
//
//	PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'orders' in vhost '/': received
//	none but current is the value '9' of type 'signedint'
//
// A text of more than 255 bytes is cut.
func (conn *connection) inequivalent(err error, kind, name string) (property string, declared, actual argument, ok bool) {
	e, isAMQP := errors.AsType[*amqp091.Error](err)
	if !isAMQP || e.Code != amqp091.PreconditionFailed {
		return "", declared, actual, false
	}
	_, rest, ok := strings.Cut(e.Reason, "inequivalent arg '")
	if !ok {
		return "", declared, actual, false
	}
	property, rest, _ = strings.Cut(rest, "'")
	cut := argument{text: "unknown", unreadable: true}
	rest, whole := strings.CutPrefix(rest, fmt.Sprintf(" for %s '%s' in vhost '%s': received ", kind, name, conn.supervisor.driver.cfg.VHost))
	left, right, both := strings.Cut(rest, " but current is ")
	if !whole || !both {
		return property, cut, cut, true
	}
	return property, readArgument(left), readArgument(right), true
}

// readArgument reads none, 'text', or the value 'text' of type 'type'.
func readArgument(s string) argument {
	if s == "none" {
		return argument{text: s}
	}
	text, quoted := strings.CutPrefix(s, "the value '")
	if !quoted {
		return argument{text: strings.Trim(s, "'"), value: strings.Trim(s, "'")}
	}
	at := strings.LastIndex(text, "' of type '")
	if at < 0 {
		return argument{text: text, unreadable: true}
	}
	text, kind := text[:at], strings.Trim(text[at+len("' of type '"):], "'")
	a := argument{text: text}
	switch kind {
	case "longstr":
		a.value = text
	case "bool":
		a.value = text == "true"
	default:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			a.unreadable = true
		}
		a.value = n
	}
	return a
}
