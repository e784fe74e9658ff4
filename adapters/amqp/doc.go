// Package amqp carries messages over RabbitMQ, by AMQP 0-9-1.
package amqp
