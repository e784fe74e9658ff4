module github.com/motifmq/motif/patterns/cron

go 1.26.0

require github.com/motifmq/motif v0.0.0

replace github.com/motifmq/motif => ../..

require github.com/robfig/cron/v3 v3.0.1

require (
	github.com/ThreeDotsLabs/watermill v1.5.1 // indirect
	github.com/google/uuid v1.6.0 // indirect
	github.com/lithammer/shortuuid/v3 v3.0.7 // indirect
	github.com/oklog/ulid v1.3.1 // indirect
	github.com/pkg/errors v0.9.1 // indirect
)
