// Package patternstest is for tests of programs that use package patterns, as net/http/httptest is
// for those that use net/http.
//
//   - A handler alone: [patterns.ContextWithDelivery] makes the ctx that it is called with.
//   - A handler with its middleware and options: [Run] sends it one message and returns what became
//     of that.
//   - A service: [NewBus] makes a bus for it, and a [Recorder] of what it publishes. [WaitIdle]
//     waits until it has nothing left to do, and [Expect] compares what it published with what it
//     should.
//
// All of it works on the in-process broker, also inside a testing/synctest bubble, and on RabbitMQ,
// and but for WaitIdle on any other broker.
package patternstest
