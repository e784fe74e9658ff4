// Package conformance says what an adapter must do, and checks it.
package conformance
