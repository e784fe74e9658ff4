package adapters

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Outcome is what becomes of a delivered message.
type Outcome uint8

const (
	Ack     Outcome = iota // done: the broker forgets it
	Requeue                // back to its place in the queue, marked redelivered; see Settle for the order of several
	Reject                 // to the queue's dead-letter queue, or gone where there is none
)

var outcomeNames = [...]string{"ack", "requeue", "reject"}

// String returns the outcome's name in lower case.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome(%d)", uint8(o))
}

// Settler is what an adapter puts behind a Delivery: the message's state in
// the session that delivered it.
type Settler interface {
	// Settle tells the broker what becomes of the message. See [Delivery.Settle].
	Settle(ctx context.Context, o Outcome) error
}

// RunSettler is implemented by Settlers of adapters that can tell the broker of several
// acknowledgements at once.
type RunSettler interface {
	Settler

	// AckInRun is Settle with Ack by a caller that is about to acknowledge another message of the
	// same subscription: the two may go to the broker together. It does not depend on that: an
	// acknowledgement that no other follows goes soon.
	AckInRun(ctx context.Context) error
}

// Delivery is a message in hand: it is the receiver's until it is settled.
type Delivery struct {
	// Message is the receiver's own copy. Its context ends with the cause
	// ErrSessionLost when the session that delivered it dies, because the message is
	// then delivered again elsewhere; if it was held for too long, the cause is
	// ErrConsumerTimeout, too. It ends with ErrClosed when the driver is closed.
	// Its Ack and Nack methods have no effect: use Settle.
	Message *message.Message

	Key         string // the Publication's Key
	Redelivered bool   // it may have been delivered before, or was sent again and may come twice

	// Returned is how often this message came back to its queue before, with no outcome: because
	// it was requeued, because a session was lost, or because it was held for too long. It is -1
	// where it came back and the broker does not count how often.
	Returned int

	// Died reports that the broker itself made a dead letter of the message since it was published,
	// however it came from there to here: what its Attempt and Lost counted is over.
	Died bool

	Remaining int // of what Get took: how many more messages were ready in the queue then

	// Early is how long before the end of its Delay the message came, because something such as an
	// operator's policy made the broker cut the delay short; 0 if it did not, or if that is not
	// known. It is as good as the clocks of publisher and receiver.
	Early time.Duration

	Properties // Attempt is at least 1

	Settler Settler
}

// Settle tells the broker what becomes of the message. Deliveries are settled
// in any order and by any goroutine. The first call counts: later ones do
// nothing and return nil, as does settling after Stop of a private source.
//
// A requeued message comes before all that have not been delivered yet. Of several, either the
// first to be requeued comes first or the one that had come first: brokers differ. Messages that
// are requeued in the order in which they came keep it. What Get took is in the queue again when
// Settle returns.
//
// Settling is bound to the session that delivered: once that is gone Settle
// sends nothing and returns ErrStaleDelivery, or ErrClosed if the driver was
// closed, whether or not the message had been settled before. The
// ErrStaleDelivery of a message that was held for too long is an
// ErrConsumerTimeout as well; that of others that went back with it is not. With
// any other error the message is still in hand, and may be settled again. A nil
// error means that the driver has the outcome, not that the broker has it: if the
// session dies right after, the message may be delivered again.
func (d Delivery) Settle(ctx context.Context, o Outcome) error { return d.Settler.Settle(ctx, o) }
