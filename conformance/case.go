package conformance

import (
	"slices"
	"strings"

	"github.com/motifmq/motif/adapters"
)

// Case is one rule, and how it is checked.
type Case struct {
	// ID is stable: area and name, as in "queue/fair-dispatch".
	ID string

	// Rule is what must hold, as a sentence. A failure reads as its violation.
	Rule string

	// Needs are the abilities that the rule is about. An adapter without one of
	// them must refuse it instead.
	Needs adapters.Ability

	// Hooks are what the broker's harness must have for the rule to be checked.
	Hooks Hook

	run func(*trial)
}

// Area returns the part of the ID before the slash.
func (c Case) Area() string {
	area, _, _ := strings.Cut(c.ID, "/")
	return area
}

// alone reports whether the case does something to the broker that others would
// notice.
func (c Case) alone() bool { return c.Hooks&(WithRestart|WithFreeze|WithBlock|WithHoldLimit) != 0 }

// Cases returns all cases, in the order of their areas.
func Cases() []Case {
	return slices.Concat(
		claimsCases,
		publishCases,
		ackCases,
		queueCases,
		pubsubCases,
		routedCases,
		exchangeCases,
		topicCases,
		rpcCases,
		replyCases,
		failureCases,
		policyCases,
		lostCases,
		limitCases,
		durableCases,
		inspectCases,
		healthCases,
		lifecycleCases,
		inputCases,
		secretCases,
	)
}
