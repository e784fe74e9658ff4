// Package bench has no code, only benchmarks: what Motif costs, each figure
// beside what it is measured by, in one run. make bench-memory runs them.
//
// A metric called x-NAME is a ratio to the baseline NAME: the median of pairs
// that ran one after the other, ours and theirs in turn, so that it holds while
// the machine's speed drifts.
package bench
