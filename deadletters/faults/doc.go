// Package faults has no code, only tests of deadletters against what brokers do wrong.
//
// They are smaller in the ordinary run: MOTIF_DEAD_LETTERS says how many letters there are.
package faults
