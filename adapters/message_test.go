package adapters

import (
	"errors"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
)

func TestValidateMessage(t *testing.T) {
	for name, m := range map[string]*message.Message{
		"zero value":       {},
		"longest id":       {UUID: atLimit},
		"longest key":      {Metadata: message.Metadata{atLimit: ""}},
		"empty key":        {Metadata: message.Metadata{"": "x"}},
		"longest metadata": {Metadata: message.Metadata{"a": strings.Repeat("x", MaxMetadataBytes/2-1), "b": strings.Repeat("x", MaxMetadataBytes/2-1)}},
	} {
		if err := ValidateMessage(m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, m := range map[string]*message.Message{
		"nil":           nil,
		"long id":       {UUID: overLimit},
		"long key":      {Metadata: message.Metadata{overLimit: ""}},
		"long value":    {Metadata: message.Metadata{"": strings.Repeat("x", MaxMetadataBytes+1)}},
		"long metadata": {Metadata: message.Metadata{"a": strings.Repeat("x", MaxMetadataBytes/2), "b": strings.Repeat("x", MaxMetadataBytes/2)}},
	} {
		if err := ValidateMessage(m); !errors.Is(err, ErrInvalid) || len(err.Error()) > 300 {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}
