package conformance

var lifecycleCases []Case
