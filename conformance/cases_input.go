package conformance

var inputCases []Case
