package adapters

import (
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
)

// MaxMetadataBytes bounds the metadata of a message, keys and values together.
// RabbitMQ closes the connection of a client whose headers do not fit into a
// frame, which is twice as large.
const MaxMetadataBytes = 64 << 10

// ValidateMessage returns an error that wraps [ErrInvalid] where m breaks a rule
// that holds for every adapter, else nil: it is not nil, its UUID and each key of
// its metadata are of at most MaxNameBytes, and the metadata of at most
// MaxMetadataBytes. An adapter calls it for each message that it is given to
// publish.
func ValidateMessage(m *message.Message) error {
	switch {
	case m == nil:
		return fmt.Errorf("%w: nil message", ErrInvalid)
	case len(m.UUID) > MaxNameBytes:
		return fmt.Errorf("%w: message id of %d bytes, at most %d fit: %q", ErrInvalid, len(m.UUID), MaxNameBytes, clip(m.UUID))
	}
	size := 0
	for key, value := range m.Metadata {
		if len(key) > MaxNameBytes {
			return fmt.Errorf("%w: metadata key of %d bytes, at most %d fit: %q", ErrInvalid, len(key), MaxNameBytes, clip(key))
		}
		size += len(key) + len(value)
	}
	if size > MaxMetadataBytes {
		return fmt.Errorf("%w: metadata of %d bytes, at most %d fit", ErrInvalid, size, MaxMetadataBytes)
	}
	return nil
}
