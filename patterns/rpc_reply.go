package patterns

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
)

// reply sends the reply to a request.
func (c *callServer) reply(w *worker, d *adapters.Delivery, produced []*message.Message, err error) {
	if err == nil && (len(produced) != 1 || produced[0] == nil) {
		err = errors.New("the handler chain returned no reply, or several")
	}
	var m *message.Message
	if err != nil {
		m = c.errorReply(err)
		w.warn(d, "call failed", err)
	} else {
		m = produced[0]
	}
	p := adapters.Publication{
		To:         adapters.Endpoint{Kind: adapters.Reply, Name: d.ReplyTo},
		Properties: adapters.Properties{ContentType: c.codecs.contentType, CorrelationID: d.CorrelationID, Transient: true, TTL: d.TTL},
		Mandatory:  true, // a caller that is gone shows in the counts
	}
	if err == nil {
		p.ContentEncoding = string(c.codecs.coding)
	}
	ctx, cancel := context.WithTimeout(w.s.settling, resendTimeout)
	defer cancel()
	r := &pendingReply{s: w.s, request: *d, publication: p, reply: m}
	if c.bus.hooks != nil || len(w.s.onSettle) > 0 {
		r.observed = &observedCall{err: err, times: w.times}
		r.observe()
	}
	r.timer = time.AfterFunc(resendTimeout, func() { r.finish(context.DeadlineExceeded) })
	w.s.live.Add(1)
	if async, ok := c.bus.driver.(adapters.AsyncPublisher); !ok {
		r.confirmed(singleError(c.bus.driver.Publish(ctx, p, r.reply)))
	} else if err := async.PublishAsync(ctx, p, r.reply, r.confirmed); err != nil {
		r.confirmed(err)
	}
}

// pendingReply is a reply on its way. The request is acknowledged once the broker has
// the reply, which no worker waits for.
type pendingReply struct {
	s           *Subscription
	request     adapters.Delivery
	publication adapters.Publication
	reply       *message.Message
	observed    *observedCall // nil where nobody watches
	timer       *time.Timer
	finished    atomic.Bool
}

// observedCall is a call that hooks of [OnSettle] are told of, and whose reply those of [OnPublish]
// are.
type observedCall struct {
	err         error // of the handler
	times       times
	observation *observation // of the reply
}

// confirmed is called with the outcome of publishing the reply.
func (r *pendingReply) confirmed(err error) {
	r.timer.Stop()
	r.finish(err)
}

// finish acknowledges the request. It does not wait for anything: it is called by
// the goroutine that reads, which logs nothing, either.
func (r *pendingReply) finish(err error) {
	switch {
	case !r.finished.CompareAndSwap(false, true):
	case err == nil && len(r.s.onSettle) == 0 && !r.hooksWait() && r.tryAcknowledge():
		r.s.countOut()
	default:
		go r.finishInBackground(err)
	}
}

func (r *pendingReply) tryAcknowledge() bool {
	return r.s.cfg.ackOnReceive || r.request.Settle(r.s.settling, adapters.Ack) == nil
}

// finishInBackground does what the reader must not wait for. Of a reply whose confirm was lost
// another copy is sent: the caller takes one. In place of one that the broker finds too large
// the caller is told so. One that cannot be delivered is the
// caller's loss alone: it is counted, and the request is done with.
func (r *pendingReply) finishInBackground(err error) {
	defer r.s.countOut() // also if a hook of OnSettle calls runtime.Goexit
	if mayResend(err) {
		err = r.resend()
	}
	if errors.Is(err, adapters.ErrTooLarge) {
		r.s.log(slog.LevelWarn, &r.request, "call failed", err)
		r.endObservation(err)
		r.reply = r.s.processor.(*callServer).errorReply(err)
		r.observe()
		err = r.resend()
	}
	r.endObservation(err)
	if err != nil {
		r.s.bus.counters.lostReplies.Add(1)
		r.s.log(slog.LevelWarn, &r.request, "reply not delivered", err)
	}
	r.settle(err)
}

// settle acknowledges the request and reports it. err is why its reply was not delivered.
func (r *pendingReply) settle(err error) {
	if len(r.s.onSettle) == 0 {
		_ = r.acknowledge()
		return
	}
	select { // hooks of OnSettle may not return: no more of them run than there may be requests in hand
	case r.s.reports <- struct{}{}:
		defer func() { <-r.s.reports }()
	case <-r.s.handling.Done():
	}
	result, why := ResultAcknowledged, r.observed.err
	if err != nil {
		result, why = ResultDropped, errors.Join(why, err)
	}
	if stale := r.acknowledge(); stale != nil {
		result, why = ResultStale, stale
	}
	r.s.report(r.request.Message.Context(), r.s.settlement(&r.request, r.observed.times, result, why, 0))
}

func (r *pendingReply) acknowledge() error {
	if r.s.cfg.ackOnReceive {
		return nil
	}
	return r.s.settle(r.s.handling, &r.request, adapters.Ack)
}

// resend sends the reply once more, and if its confirm is lost, too, a last time while
// no other is sent so: it may be one that the broker ends the session for, and take others with it.
// One that was not sent at all, for the sake of another, is tried until its time is up.
func (r *pendingReply) resend() error {
	ctx, cancel := context.WithTimeout(r.s.settling, resendTimeout)
	defer cancel()
	send := func() error { return singleError(r.s.bus.driver.Publish(ctx, r.publication, r.reply)) }
	err := send()
	if !mayResend(err) {
		return err
	}
	select {
	case r.s.bus.lastResend <- struct{}{}:
		defer func() { <-r.s.bus.lastResend }()
	case <-ctx.Done():
		return err
	}
	for {
		if err = send(); !errors.Is(err, adapters.ErrUnavailable) || sleep(ctx, resendPause/10) != nil {
			return err
		}
	}
}

// mayResend reports whether a reply that failed with err may be delivered if it is sent again.
func mayResend(err error) bool {
	return errors.Is(err, adapters.ErrUnconfirmed) || errors.Is(err, adapters.ErrUnavailable)
}

// observe tells the hooks of the reply.
func (r *pendingReply) observe() {
	if hooks := r.s.bus.hooks; hooks != nil && r.observed != nil {
		msgs := []*message.Message{r.reply}
		r.observed.observation = hooks.observe(detachedContext(&r.request), CauseReply, r.publication, msgs)
		r.reply = msgs[0]
	}
}

// hooksWait reports whether hooks are to be told what became of the reply.
func (r *pendingReply) hooksWait() bool { return r.observed != nil && r.observed.observation.hasEnd() }

// endObservation tells them.
func (r *pendingReply) endObservation(err error) {
	if r.observed != nil {
		r.observed.observation.end(err)
	}
}

// errorReply is the reply that says why there is none.
func (c *callServer) errorReply(err error) *message.Message {
	code, text := c.bus.codeOf(err)
	if c.expose {
		text = err.Error()
	}
	header := message.Metadata{HeaderErrorCode: code}
	if text != "" {
		header[HeaderError] = clip(text, maxReason)
	}
	return c.bus.message("", nil, header)
}

// codeOf returns the code under which err travels, and what of its text any caller may see.
func (b *Bus) codeOf(err error) (code, text string) {
	if isA[*badRequestError](err) {
		return CodeBadRequest, err.Error() // whatever made it so; it says of the caller's own request what is wrong with it
	}
	for _, known := range b.errorCodes {
		if errors.Is(err, known.err) {
			return known.code, known.err.Error()
		}
	}
	switch {
	case isA[*rejectError](err):
		return CodeRejected, ""
	case isA[*PanicError](err):
		return CodePanic, ""
	}
	return CodeInternal, ""
}
