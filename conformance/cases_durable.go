package conformance

var durableCases []Case
