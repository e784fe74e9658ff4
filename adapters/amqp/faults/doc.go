// Package faults has no code, only tests: what can go wrong between a program
// and RabbitMQ is made to happen on real nodes, and what becomes of every
// message is written down and judged. TestFaults prints the outcome as a
// table, a row for each kind of fault.
package faults
