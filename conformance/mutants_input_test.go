package conformance

var inputMutants []mutant
