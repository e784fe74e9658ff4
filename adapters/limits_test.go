package adapters

import (
	"errors"
	"strings"
	"testing"
)

var (
	atLimit   = strings.Repeat("x", MaxNameBytes)
	overLimit = atLimit + "x"
)

// TestErrorsDoNotRepeatALot: a megabyte of key must not become a megabyte of log.
func TestErrorsDoNotRepeatALot(t *testing.T) {
	huge := strings.Repeat("k", 1<<20)
	for name, err := range map[string]error{
		"key":         Publication{To: Endpoint{Topic, "x"}, Key: huge}.Validate(),
		"useless key": Publication{To: Endpoint{Fanout, "x"}, Key: huge}.Validate(),
		"name":        Publication{To: Endpoint{Topic, huge}}.Validate(),
		"amq. name":   Publication{To: Endpoint{Topic, "amq." + huge}}.Validate(),
		"pattern":     Source{Endpoint: Endpoint{Topic, "x"}, Keys: []string{huge}}.Validate(),
		"group":       Source{Endpoint: Endpoint{Queue, "q"}, Group: huge}.Validate(),
	} {
		if err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: an error of %d bytes", name, len(err.Error()))
		}
	}
}

func TestValidateDoesNotAllocate(t *testing.T) {
	p, s := fullPublication(), Source{Endpoint: Endpoint{Topic, "news"}, Keys: []string{"usa.#"}, Prefetch: 1}
	if n := testing.AllocsPerRun(100, func() {
		if err := errors.Join(p.Validate(), s.ValidateSubscribe()); err != nil {
			t.Error(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
