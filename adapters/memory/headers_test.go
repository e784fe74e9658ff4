package memory_test

import (
	"errors"
	"testing"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/memory"
)

func TestWhatAnOperatorMayNot(t *testing.T) {
	b := memory.New()
	defer b.Close()
	src := adapters.Source{Endpoint: adapters.Endpoint{Name: "q"}}
	if err := b.Connect().Declare(t.Context(), src); err != nil {
		t.Fatal(err)
	}
	for _, match := range []string{"-with-x", "some", "All"} {
		if err := b.Bind("q", "amq.match", "", map[string]string{"x-match": match}); !errors.Is(err, adapters.ErrInvalid) {
			t.Errorf("x-match %q: %v", match, err)
		}
	}
	if err := b.DeclareExchange("amq.mine", "fanout"); !errors.Is(err, adapters.ErrAccess) {
		t.Errorf("an exchange of the broker's: %v", err)
	}
	if err := b.DeclareExchange("amq.fanout", "fanout"); err != nil {
		t.Errorf("an exchange that is there: %v", err)
	}
}
