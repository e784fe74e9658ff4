package memory

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters"
)

// with returns a source of the queue "q" with dead letters and what change sets.
func with(change func(*adapters.QueueSpec)) adapters.Source {
	s := fromQueue("q", 100)
	s.Queue.DeadLetter = "q.dead"
	change(&s.Queue)
	return s
}

func wantDead(t *testing.T, c *Client, reason string, ids ...string) {
	t.Helper()
	sub := subscribe(t, c, fromQueue("q.dead", 100))
	for _, id := range ids {
		d := receive(t, sub, id)
		m := d.Message.Metadata
		if m[MetadataFirstDeathReason] != reason || m[MetadataFirstDeathQueue] != "q" || m[MetadataDeaths] != "q "+reason+" 1" {
			t.Errorf("metadata of a dead letter: %v, want reason %s", m, reason)
		}
		if d.Redelivered || d.TTL != 0 {
			t.Errorf("a dead letter is new, and does not expire: %+v", d)
		}
		settle(t, d, adapters.Ack)
	}
	nothing(t, sub)
	_ = sub.Stop()
}

func TestRejectDeadLetters(t *testing.T) {
	_, c := connect(t)
	sub := subscribe(t, c, with(func(*adapters.QueueSpec) {}))
	p := toQueue("q")
	p.Key, p.Attempt, p.Priority, p.TTL = "kept", 3, 2, time.Hour
	publish(t, c, p, "a", "b")
	settle(t, receive(t, sub, "a"), adapters.Reject)
	d, err := c.Get(ctx, fromQueue("q.dead", 1))
	if err != nil || d.Key != "kept" || d.Attempt != 3 || d.Priority != 2 || string(d.Message.Payload) != "payload of a" {
		t.Fatalf("dead letter: %+v, %v", d, err)
	}
	settle(t, d, adapters.Requeue)
	settle(t, receive(t, sub, "b"), adapters.Reject)
	d, err = c.Get(ctx, fromQueue("q.dead", 1))
	if err != nil {
		t.Fatal(err)
	}
	settle(t, d, adapters.Ack)
	wantDead(t, c, "rejected", "b")
}

func TestRejectWithoutDeadLetterQueueIsGone(t *testing.T) {
	b, c := connect(t)
	sub := subscribe(t, c, fromQueue("q", 1))
	publish(t, c, toQueue("q"), "a", "b")
	settle(t, receive(t, sub, "a"), adapters.Reject)
	receiveAll(t, sub, "b")
	wantQueue(t, b, "q", 0, 0, 1)

	s := with(func(*adapters.QueueSpec) {})
	s.Name = "p"
	sub = subscribe(t, c, s)
	if err := b.DeleteQueue("q.dead"); err != nil {
		t.Fatal(err)
	}
	publish(t, c, toQueue("p"), "a")
	settle(t, receive(t, sub, "a"), adapters.Reject) // to a queue that is missing
}

func TestDeadLetterCyclesWithoutRejectionAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		expiring := adapters.QueueSpec{MessageTTL: time.Second}
		for _, s := range []adapters.Source{fromQueue("q", 1), fromQueue("p", 1)} {
			s.Queue = expiring
			declare(t, c, s)
		}
		// No declaration leads to a cycle, for a dead-letter queue has no other
		// properties. But what happens in one must not depend on that.
		b.routes.queues["q"].spec.DeadLetter = "p"
		b.routes.queues["p"].spec.DeadLetter = "q"
		publish(t, c, toQueue("q"), "a")
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		wantQueue(t, b, "p", 1, 0, 0)
		d, err := c.Get(ctx, adapters.Source{Endpoint: queueAt("p"), Passive: true})
		if err != nil {
			t.Fatal(err)
		}
		settle(t, d, adapters.Reject) // by somebody: so it may go round once more
		wantQueue(t, b, "q", 1, 0, 0)
		if d, err = c.Get(ctx, adapters.Source{Endpoint: queueAt("q"), Passive: true}); err != nil {
			t.Fatal(err)
		}
		if got, want := d.Message.Metadata[MetadataDeaths], "p rejected 1, q expired 1"; got != want {
			t.Errorf("deaths %q, want %q", got, want)
		}
		settle(t, d, adapters.Requeue)
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		wantQueue(t, b, "p", 1, 0, 0)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		wantQueue(t, b, "q", 0, 0, 0)
		wantQueue(t, b, "p", 0, 0, 0)
	})
}

func TestMaxLengthRejectsPublish(t *testing.T) {
	b, c := connect(t)
	s := with(func(q *adapters.QueueSpec) { q.MaxLength = 2 })
	s.Prefetch = 1
	sub := subscribe(t, c, s)
	publish(t, c, toQueue("q"), "a", "b", "c") // one is not waiting but with the consumer
	wantErr(t, "Publish", c.Publish(ctx, toQueue("q"), msg("d")), adapters.ErrNacked)
	wantQueue(t, b, "q", 2, 1, 1)
	settle(t, receive(t, sub, "a"), adapters.Ack)
	publish(t, c, toQueue("q"), "e")
	receiveAll(t, sub, "b", "c", "e")
	wantQueue(t, b, "q.dead", 0, 0, 0)
}

func TestAnyFullQueueNacksButOthersKeepTheirCopy(t *testing.T) {
	b, c := connect(t)
	full := from(adapters.Fanout, "full")
	full.Queue.MaxLength = 1
	declare(t, c, full)
	declare(t, c, from(adapters.Fanout, "free"))
	publish(t, c, to(adapters.Fanout, ""), "a")
	err := c.Publish(ctx, to(adapters.Fanout, ""), msg("b"), msg("c"))
	wantErr(t, "Publish", err, adapters.ErrNacked)
	if failed := failures(t, err); len(failed) != 2 {
		t.Errorf("failed: %+v", failed)
	}
	wantQueue(t, b, "the-fanout:full", 1, 0, 0)
	wantQueue(t, b, "the-fanout:free", 3, 0, 0)
}

func TestMaxLengthDropsHead(t *testing.T) {
	b, c := connect(t)
	s := with(func(q *adapters.QueueSpec) { q.MaxLength, q.Overflow = 2, adapters.DropHead })
	declare(t, c, s)
	publish(t, c, toQueue("q"), "a", "b", "c", "d")
	wantQueue(t, b, "q", 2, 0, 0)
	wantDead(t, c, "maxlen", "a", "b")
	receiveAll(t, subscribe(t, c, s), "c", "d")
}

// What expired behind the head is gone together with that.
func TestMaxLengthDropsHeadBeforeExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		s := with(func(q *adapters.QueueSpec) { q.MaxLength, q.Overflow = 2, adapters.DropHead })
		declare(t, c, s)
		publish(t, c, toQueue("q"), "head")
		p := toQueue("q")
		p.TTL = time.Second
		publish(t, c, p, "expires")
		time.Sleep(2 * time.Second)
		publish(t, c, toQueue("q"), "new")
		wantQueue(t, b, "q", 1, 0, 0)
		wantQueue(t, b, "q.dead", 2, 0, 0)
	})
}

func TestRequeuePastMaxLength(t *testing.T) {
	for name, test := range map[string]struct {
		overflow adapters.Overflow
		dead     []string
	}{"reject": {adapters.RejectPublish, nil}, "drop": {adapters.DropHead, []string{"a"}}} {
		t.Run(name, func(t *testing.T) {
			b, c := connect(t)
			s := with(func(q *adapters.QueueSpec) { q.MaxLength, q.Overflow = 1, test.overflow })
			s.Prefetch = 1
			sub := subscribe(t, c, s)
			publish(t, c, toQueue("q"), "a", "b")
			_ = sub.Stop()
			wantQueue(t, b, "q", 2-len(test.dead), 0, 0)
			wantDead(t, c, "maxlen", test.dead...)
		})
	}
}

func TestPriority(t *testing.T) {
	_, c := connect(t)
	s := with(func(q *adapters.QueueSpec) { q.MaxPriority = 5 })
	declare(t, c, s)
	p := toQueue("q")
	for _, m := range []struct {
		id       string
		priority uint8
	}{{"0a", 0}, {"5a", 5}, {"3a", 3}, {"9a", 9}, {"5b", 5}, {"0b", 0}, {"3b", 3}} {
		p.Priority = m.priority
		publish(t, c, p, m.id)
	}
	// 9 counts as 5, and one priority is first in, first out.
	receiveAll(t, subscribe(t, c, s), "5a", "9a", "5b", "3a", "3b", "0a", "0b")
}

func TestPriorityMeansNothingWithoutMaxPriority(t *testing.T) {
	_, c := connect(t)
	declare(t, c, fromQueue("q", 1))
	p := toQueue("q")
	publish(t, c, p, "a")
	p.Priority = 9
	publish(t, c, p, "b")
	receiveAll(t, subscribe(t, c, fromQueue("q", 1)), "a", "b")
}

func TestTTLIsTheShorterOfQueueAndMessage(t *testing.T) {
	const none = 0
	for _, test := range []struct{ queue, message, want time.Duration }{
		{none, time.Second, time.Second},
		{time.Second, none, time.Second},
		{time.Second, time.Hour, time.Second},
		{time.Hour, time.Second, time.Second},
		{none, none, none},
		{none, adapters.MaxTTL, adapters.MaxTTL},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, c := connect(t)
			declare(t, c, with(func(q *adapters.QueueSpec) { q.MessageTTL = test.queue }))
			p := toQueue("q")
			p.TTL = test.message
			publish(t, c, p, "a")
			if test.want == none {
				time.Sleep(1000 * time.Hour)
				synctest.Wait()
				wantQueue(t, b, "q", 1, 0, 0)
				return
			}
			time.Sleep(test.want - 1)
			synctest.Wait()
			wantQueue(t, b, "q", 1, 0, 0)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			wantQueue(t, b, "q", 0, 0, 0)
			wantDead(t, c, "expired", "a")
		})
	}
}

func TestExpiryIsAtTheHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		s := with(func(*adapters.QueueSpec) {})
		declare(t, c, s)
		p := toQueue("q")
		for _, m := range []struct {
			id  string
			ttl time.Duration
		}{{"hour", time.Hour}, {"second", time.Second}, {"minute", time.Minute}, {"ever", 0}} {
			p.TTL = m.ttl
			publish(t, c, p, m.id)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantQueue(t, b, "q", 4, 0, 0) // it waits behind one that lives longer,
		s.Prefetch = 1
		sub := subscribe(t, c, s)
		settle(t, receive(t, sub, "hour"), adapters.Ack)
		receiveAll(t, sub, "minute", "ever") // but is never delivered
		wantDead(t, c, "expired", "second")
	})
}

// What expired behind a message is gone as soon as that is got.
func TestExpiryBehindAGet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		s := with(func(*adapters.QueueSpec) {})
		declare(t, c, s)
		publish(t, c, toQueue("q"), "lives")
		p := toQueue("q")
		p.TTL = time.Second
		publish(t, c, p, "expires")
		time.Sleep(2 * time.Second)
		if _, err := c.Get(ctx, s); err != nil {
			t.Fatal(err)
		}
		wantQueue(t, b, "q", 0, 1, 0)
	})
}

func TestTTLSurvivesRequeue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		s := with(func(q *adapters.QueueSpec) { q.MessageTTL = time.Minute })
		sub := subscribe(t, c, s)
		publish(t, c, toQueue("q"), "a", "b")
		time.Sleep(40 * time.Second)
		settle(t, receive(t, sub, "a"), adapters.Requeue)
		late := receive(t, sub, "b")
		again := receive(t, sub, "a")
		_ = sub.Stop()
		settle(t, again, adapters.Requeue)
		time.Sleep(19 * time.Second)
		synctest.Wait()
		wantQueue(t, b, "q", 1, 1, 0)
		time.Sleep(time.Second)
		synctest.Wait()
		wantQueue(t, b, "q", 0, 1, 0)
		settle(t, late, adapters.Requeue) // expired while it was in hand
		wantQueue(t, b, "q", 0, 0, 0)
		wantDead(t, c, "expired", "a", "b")
	})
}

func TestAnEarlierExpiryGetsTheTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		s := with(func(q *adapters.QueueSpec) { q.MaxPriority = 1 })
		declare(t, c, s)
		p := toQueue("q")
		p.TTL = time.Hour
		publish(t, c, p, "hour")
		p.TTL, p.Priority = time.Second, 1
		publish(t, c, p, "second") // goes to the head
		time.Sleep(time.Second)
		synctest.Wait()
		wantQueue(t, b, "q", 1, 0, 0)
		time.Sleep(time.Hour)
		synctest.Wait()
		wantQueue(t, b, "q", 0, 0, 0)
	})
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := connect(t)
		sub := subscribe(t, c, fromQueue("q", 10))
		for id, d := range map[string]time.Duration{"month": maxDelay, "hour": time.Hour, "second": time.Second, "minute": time.Minute} {
			p := toQueue("q")
			p.Delay = d
			publish(t, c, p, id)
		}
		start := time.Now()
		publish(t, c, toQueue("q"), "now")
		for _, want := range []struct {
			id string
			at time.Duration
		}{{"now", 0}, {"second", time.Second}, {"minute", time.Minute}, {"hour", time.Hour}, {"month", maxDelay}} {
			d, err := sub.Receive(ctx)
			if err != nil || d.Message.UUID != want.id || time.Since(start) != want.at {
				t.Fatalf("after %v: %s, %v; want %s after %v", time.Since(start), d.Message.UUID, err, want.id, want.at)
			}
			if !d.Timestamp.Equal(start) {
				t.Errorf("timestamp %v, want when it was published", d.Timestamp)
			}
			settle(t, d, adapters.Ack) // or it would be held for too long
		}
		p := toQueue("q")
		p.Delay = maxDelay + 1
		wantErr(t, "Publish later", c.Publish(ctx, p, msg("late")), adapters.ErrInvalid)
	})
}

func TestDelayedMessagesKeepTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := connect(t)
		sub := subscribe(t, c, fromQueue("q", 1000))
		p := toQueue("q")
		p.Delay = time.Second
		publish(t, c, p, numbered(1000)...)
		time.Sleep(time.Second)
		synctest.Wait()
		receiveAll(t, sub, numbered(1000)...)
	})
}

func TestDelayedMessagesAreRoutedWhenTheyAreDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		p := to(adapters.Topic, "k")
		p.Delay, p.TTL = time.Hour, time.Minute // which does not count any more
		publish(t, c, p, "a")
		toQ := toQueue("q")
		toQ.Delay = time.Minute
		publish(t, c, toQ, "nowhere")
		time.Sleep(time.Hour - 1)
		declare(t, c, from(adapters.Topic, "g", "k"))
		declare(t, c, fromQueue("q", 1))
		time.Sleep(time.Minute)
		synctest.Wait()
		wantQueue(t, b, "the-topic:g", 1, 0, 0)
		wantQueue(t, b, "q", 0, 0, 0)
		sub := subscribe(t, c, from(adapters.Topic, "g", "k"))
		if got := receive(t, sub, "a"); got.TTL != time.Minute {
			t.Errorf("its receiver is told a TTL of %v", got.TTL)
		}
	})
}

func TestDelayedMessagesWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, c := connect(t)
		full := from(adapters.Fanout, "full")
		full.Queue.MaxLength = 1
		declare(t, c, full)
		declare(t, c, from(adapters.Fanout, "roomy"))
		publish(t, c, to(adapters.Fanout, ""), "first")
		p := to(adapters.Fanout, "")
		p.Delay = time.Minute
		publish(t, c, p, "a", "b")
		time.Sleep(time.Hour)
		wantQueue(t, b, "the-fanout:full", 1, 0, 0)
		wantQueue(t, b, "the-fanout:roomy", 3, 0, 0)
		start := time.Now()
		receiveAll(t, subscribe(t, c, full), "first", "a", "b")
		if waited := time.Since(start); waited > fullPause {
			t.Errorf("there was room for %v", waited)
		}
		time.Sleep(time.Hour)
		wantQueue(t, b, "the-fanout:full", 0, 0, 1)
		wantQueue(t, b, "the-fanout:roomy", 3, 0, 0)
	})
}
