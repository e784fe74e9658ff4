// Package faults has no code, only tests: what can go wrong between a program and Kafka is made to
// happen to a real broker, and what becomes of every message is written down and judged. TestFaults
// prints the outcome as a table, a row for each kind of fault.
package faults
