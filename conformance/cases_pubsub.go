package conformance

var pubsubCases []Case
