// Package model has no code, only the model test: what the in-process broker
// does in a random sequence of operations, RabbitMQ does too.
//
// A sequence is a text, one operation a line (see op_test.go for the words).
// It is played on adapters/memory, and then on RabbitMQ through adapters/amqp.
// What each operation returned, each message that was received, and how many
// messages and consumers each queue has afterwards must be the same. A sequence
// that tells the two apart is made as short as it gets, and printed; put into
// testdata, it is played in every run from then on.
//
// Only what is determined is compared: play_test.go waits for what is due and
// never guesses from silence, and rules_test.go leaves out, with the
// reason, what RabbitMQ does not promise.
//
//	go test ./internal/model                  50 sequences, from another seed each time
//	make model SEQUENCES=2000 SEED=1          as many as you like
package model
