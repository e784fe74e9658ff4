// A module of its own, so that the plots' dependencies are not those of the
// library's users.
module github.com/motifmq/motif/internal/bench

go 1.26.0

require (
	github.com/motifmq/motif v0.0.0
	github.com/rabbitmq/amqp091-go v1.16.0
)

require (
	github.com/ThreeDotsLabs/watermill v1.5.1 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/lithammer/shortuuid/v3 v3.0.7 // indirect
	github.com/oklog/ulid v1.3.1 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	go.uber.org/goleak v1.3.0 // indirect
)

replace github.com/motifmq/motif => ../..
