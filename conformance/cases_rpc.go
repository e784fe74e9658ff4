package conformance

var rpcCases []Case
