package main

import (
	"strconv"

	"github.com/rabbitmq/amqp091-go"
)

// The raw client is amqp091-go used by hand, as one would who knows it well.

const rawClient = "amqp091-go by hand"

// dialRaw opens a connection and a channel.
func dialRaw(url string) (*amqp091.Connection, *amqp091.Channel, error) {
	conn, err := amqp091.Dial(url)
	if err != nil {
		return nil, nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		_ = conn.Close()
		return nil, nil, err
	}
	return conn, ch, nil
}

// declareRaw declares a durable queue of a type.
func declareRaw(ch *amqp091.Channel, queue, kind string) error {
	_, err := ch.QueueDeclare(queue, true, false, false, false, amqp091.Table{"x-queue-type": kind})
	return err
}

// rawMessage is a persistent message with an id, so that a consumer can tell a
// repeat.
func rawMessage(body []byte, id string) amqp091.Publishing {
	return amqp091.Publishing{DeliveryMode: amqp091.Persistent, MessageId: id, ContentType: "application/octet-stream", Body: body}
}

// number makes ids, as cheap as they come.
func number(i int) string { return "m" + strconv.Itoa(i) }
