package conformance

var topicCases []Case
