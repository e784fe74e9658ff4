package conformance

var limitCases []Case
