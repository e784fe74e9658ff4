package adapters

import (
	"errors"
	"math/bits"
	"strings"
	"testing"
)

func TestAbilityNames(t *testing.T) {
	if got := bits.OnesCount64(uint64(AllV1 | CanCancel | CanUnique)); got != len(abilityNames) {
		t.Fatalf("%d abilities have %d names", got, len(abilityNames))
	}
	if CanReportHealth<<1 != AllV1+1 {
		t.Errorf("AllV1 is %b, its last ability is %b", AllV1, CanReportHealth)
	}
	if all := Abilities(); all[0] != CanFanout || all[len(all)-1] != CanUnique {
		t.Errorf("the abilities are %v", all)
	}
	seen := make(map[string]bool)
	for i := range abilityNames {
		name := Ability(1 << i).String()
		if name == "" || strings.Contains(name, ", ") || seen[name] {
			t.Errorf("ability %d is called %q", i, name)
		}
		seen[name] = true
	}
	// One from each end and from the middle, against a list out of step.
	for ability, want := range map[Ability]string{
		0: "", CanFanout: "fanout", CanReturn: "mandatory messages", CanDeadLetter: "dead letters", CanBalance: "fair dispatch", CanUnbind: "unbinding", CanDelete: "deleting queues", CanReportHealth: "reporting health", CanCancel: "cancelling", CanUnique: "unique messages",
		CanRoute | CanTopic: "direct routing, topic routing",
		1 << 63:             "ability(63)",
	} {
		if got := ability.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestAbilityHas(t *testing.T) {
	a := CanRoute | CanTopic
	for b, want := range map[Ability]bool{
		0: true, CanRoute: true, a: true, CanReply: false, CanRoute | CanReply: false, AllV1: false,
	} {
		if got := a.Has(b); got != want {
			t.Errorf("%v has %v: %v", a, b, got)
		}
	}
}

func TestRequire(t *testing.T) {
	f := Features{Adapter: "pigeon", Ability: CanFanout | CanRoute}
	for _, need := range []Ability{0, CanFanout, CanFanout | CanRoute} {
		if err := f.Require(need); err != nil {
			t.Errorf("%v: %v", need, err)
		}
	}
	err := f.Require(CanFanout | CanDelay | CanReply)
	if !errors.Is(err, ErrUnsupported) {
		t.Fatalf("%v, want ErrUnsupported", err)
	}
	var unsupported *UnsupportedError
	if !errors.As(err, &unsupported) || unsupported.Adapter != "pigeon" || unsupported.Missing != CanDelay|CanReply {
		t.Errorf("%#v, want pigeon to miss delay and reply addresses", unsupported)
	}
	if got, want := err.Error(), "motif: adapter pigeon does not support reply addresses, delay"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
