package conformance

var ackCases []Case
