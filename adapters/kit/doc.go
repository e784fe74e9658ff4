// Package kit has what nearly every adapter has to write, so that a new one need not:
//
//   - [PublishEach] and [Batch] gather what became of the messages of one Publish call;
//   - [Tasks] are the goroutines of a driver, which its Close waits for;
//   - [Call] runs an operation of a client that knows no context, and stops waiting for it when the
//     context ends;
//   - [Backoff] spaces attempts to reconnect;
//   - [Routes] has publishers route, where the broker has no bindings;
//   - [Differences] says in what a queue is not as declared;
//   - [JSONWriter] and [JSONReader] write and read what goes with each message, in a fraction of
//     the time that encoding/json takes.
//
// It stands on package adapters alone, and an adapter need not use it. Motif's own adapters do.
package kit
