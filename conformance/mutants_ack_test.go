package conformance

var ackMutants []mutant
