package patterns

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

const (
	resendTimeout = 10 * time.Second // for a retry or dead letter to be stored
	maxReason     = 1 << 10          // bytes of an error's text that travel in a header
)

// bury sends a message that died in queue to its dead letters, with the
// reason. A queue that is its own dead-letter queue parks the message instead:
// it comes again after park.
func (b *Bus) bury(ctx context.Context, d *adapters.Delivery, queue, deadLetter string, park time.Duration, reason error) error {
	p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: deadLetter}, Key: d.Key, Properties: d.Properties}
	p.Attempt, p.Lost, p.Lasting = 0, 0, true
	if deadLetter == queue {
		p.Delay = park
		if limit := b.features.MaxDelay; limit > 0 {
			p.Delay = min(park, limit)
		}
	} else {
		p.Mandatory = b.features.Ability.Has(adapters.CanReturn)
	}
	letter := clone(d.Message)
	if deadLetter == queue {
		letter.Metadata[HeaderRepair] = clip(reason.Error(), maxReason) // what it died of stays
	} else {
		letter.Metadata[HeaderReason] = clip(reason.Error(), maxReason)
		letter.Metadata[HeaderAttempts] = strconv.Itoa(d.Attempt)
		if d.Lost > 0 {
			letter.Metadata[HeaderLosses] = strconv.Itoa(d.Lost)
		}
		letter.Metadata[HeaderQueue] = queue
		letter.Metadata[HeaderDiedAt] = time.Now().UTC().Format(time.RFC3339Nano)
	}
	err := b.resend(ctx, p, letter)
	if errors.Is(err, adapters.ErrUnroutable) { // somebody deleted the dead-letter queue
		ctx, cancel := context.WithTimeout(ctx, resendTimeout)
		defer cancel()
		if err = b.driver.Declare(ctx, adapters.Source{Endpoint: p.To}); err == nil {
			err = b.driver.Publish(ctx, p, letter)
		}
	}
	return err
}

// resend publishes a message that was received.
func (b *Bus) resend(ctx context.Context, p adapters.Publication, m *message.Message) error {
	ctx, cancel := context.WithTimeout(ctx, resendTimeout)
	defer cancel()
	return b.driver.Publish(ctx, p, m)
}

// clip shortens s to at most n bytes of valid UTF-8.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}
