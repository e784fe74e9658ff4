package conformance

var publishCases []Case
