package conformance

var secretCases []Case
