package conformance

var lifecycleMutants []mutant
