package history

import (
	"context"
	"errors"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// A driver that cannot publish asynchronously keeps PublishAsync's promise
// nevertheless: an error or an answer, not both.
func TestPublishAsyncOfADriverThatCannot(t *testing.T) {
	d, _ := recorded(t, func(d adapters.Driver) adapters.Driver { return struct{ adapters.Driver }{d} })
	p := adapters.Publication{To: adapters.Endpoint{Kind: adapters.Queue, Name: "q"}}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	mandatory := p
	mandatory.Mandatory = true
	for name, c := range map[string]struct {
		ctx                 context.Context
		p                   adapters.Publication
		wantErr, wantAnswer error
	}{
		"not sent":     {ended, p, context.Canceled, nil},
		"sent":         {t.Context(), p, nil, nil},
		"sent in vain": {t.Context(), mandatory, nil, adapters.ErrUnroutable},
	} {
		t.Run(name, func(t *testing.T) {
			var answers []error
			err := d.PublishAsync(c.ctx, c.p, message.NewMessage("m", nil), func(err error) { answers = append(answers, err) })
			if !errors.Is(err, c.wantErr) {
				t.Errorf("it returned %v", err)
			}
			if (err == nil) != (len(answers) == 1) || err == nil && !errors.Is(answers[0], c.wantAnswer) {
				t.Errorf("it answered %v", answers)
			}
		})
	}
}
