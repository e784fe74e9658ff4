// Package docs has no code, only the tests that the README and the pages in docs are true:
// their programs are compiled, their links lead somewhere, the tests and files that they name
// exist, and the page of options has all there are.
package docs
