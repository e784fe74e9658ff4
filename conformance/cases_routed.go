package conformance

var routedCases []Case
