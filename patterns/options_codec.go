package patterns

type (
	// CodecOption is what [WithCodec] returns; it is a BusOption, a WorkQueueOption, an
	// ExchangeOption, a SubscribeOption, a SubscribeBatchOption, a ServeOption, a PublishOption and
	// a CallOption.
	CodecOption struct {
		codec  Codec
		others []Codec
	}

	// CompressOption is what [Compress] returns; it is a BusOption, a WorkQueueOption, an
	// ExchangeOption, a ServeOption, a PublishOption and a CallOption.
	CompressOption struct{ coding Coding }
)

// WithCodec makes c encode what is sent, and decode it together with the others, each for its own
// content type. Without it the codec is [JSON]. [JSON], [Text] and [Bytes] are always there to
// decode. What comes with no content type is decoded by c.
//
// Given to [New] it is for the whole bus; to [NewWorkQueue] for what is sent to that queue and
// comes from it; to [NewTopic] and the like for what is published there and comes to subscriptions;
// to Subscribe for what comes; to [RPC.Serve] for requests and their replies; to
// Publish or Send for that message; to [RPC.Call] for that request and its reply.
func WithCodec(c Codec, others ...Codec) CodecOption { return CodecOption{c, others} }

// Compress makes what is sent be compressed. Who receives it has to know of content encodings:
// Motif decodes all that its program knows, see [Coding]. Given to [New] it is for the whole bus,
// replies included; elsewhere as [WithCodec], where Compress(Identity) takes it back.
func Compress(c Coding) CompressOption { return CompressOption{c} }

func (o CodecOption) apply(c *encodingConfig) error {
	switch {
	case o.codec == nil:
		return invalid("nil codec")
	case c.codec != nil:
		return givenTwice("WithCodec")
	}
	c.codec, c.others = o.codec, o.others
	return nil
}

func (o CodecOption) applyBus(c *busConfig) error                  { return o.apply(&c.encoding) }
func (o CodecOption) applyQueue(c *queueConfig) error              { return o.apply(&c.encoding) }
func (o CodecOption) applyExchange(c *encodingConfig) error        { return o.apply(c) }
func (o CodecOption) applyServe(c *consumeConfig) error            { return o.apply(&c.encoding) }
func (o CodecOption) applySubscribe(c *subscribeConfig) error      { return o.apply(&c.encoding) }
func (o CodecOption) applySubscribeBatch(c *subscribeConfig) error { return o.applySubscribe(c) }
func (o CodecOption) applyCall(c *publishConfig) error             { return o.apply(&c.encoding) }

func (o CodecOption) applyPublish(c *publishConfig) error {
	if len(o.others) > 0 {
		return invalid("WithCodec for one message, with %d codecs to decode", len(o.others))
	}
	return o.apply(&c.encoding)
}

func (o CompressOption) apply(c *encodingConfig) error {
	if c.coding != "" {
		return givenTwice("Compress")
	}
	if o.coding != Identity {
		if _, err := compressionNamed(o.coding); err != nil {
			return invalid("Compress(%q): %v", clip(string(o.coding), 64), err)
		}
	}
	c.coding = o.coding
	return nil
}

func (o CompressOption) applyBus(c *busConfig) error           { return o.apply(&c.encoding) }
func (o CompressOption) applyQueue(c *queueConfig) error       { return o.apply(&c.encoding) }
func (o CompressOption) applyExchange(c *encodingConfig) error { return o.apply(c) }
func (o CompressOption) applyServe(c *consumeConfig) error     { return o.apply(&c.encoding) }
func (o CompressOption) applyPublish(c *publishConfig) error   { return o.apply(&c.encoding) }
func (o CompressOption) applyCall(c *publishConfig) error      { return o.apply(&c.encoding) }
