package conformance

var limitMutants []mutant
