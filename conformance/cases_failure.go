package conformance

var failureCases []Case
