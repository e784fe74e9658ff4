package conformance

var durableMutants []mutant
