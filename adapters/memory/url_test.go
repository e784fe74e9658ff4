package memory

import (
	"context"
	"strings"
	"testing"

	"github.com/motifmq/motif/adapters"
)

func open1(t *testing.T, url string) *Client {
	t.Helper()
	d, err := adapters.Open(ctx, url)
	if err != nil {
		t.Fatalf("Open %s: %v", url, err)
	}
	t.Cleanup(func() { _ = d.Close(ctx) })
	return d.(*Client)
}

func TestOpenMakesABrokerEachTime(t *testing.T) {
	for _, url := range []string{"memory:", "memory://"} {
		first, second := open1(t, url), open1(t, url)
		if first.Broker() == second.Broker() {
			t.Errorf("%s is shared", url)
		}
		other := first.Broker().Connect()
		_ = first.Close(ctx)
		wantErr(t, "use of a closed broker", other.Declare(ctx, fromQueue("q", 1)), adapters.ErrClosed)
	}
}

func TestOpenByNameShares(t *testing.T) {
	first, second, other := open1(t, "memory:shop"), open1(t, "memory://shop"), open1(t, "memory:Shop")
	if first.Broker() != second.Broker() || first.Broker() == other.Broker() {
		t.Error("a broker per name, wanted")
	}
	publish(t, first, toQueue("none"), "a")
	declare(t, first, fromQueue("q", 1))
	_ = first.Close(ctx)
	_ = first.Close(ctx)
	declare(t, second, fromQueue("q", 1))
	old := second.Broker()
	_ = second.Close(ctx)
	if next := open1(t, "memory:shop"); next.Broker() == old {
		t.Error("the broker outlived its last client")
	} else {
		next.Broker().Close()
		declare(t, open1(t, "memory:shop"), fromQueue("q", 1)) // a new one again
	}
}

func TestOpenLeavesNothingBehind(t *testing.T) {
	_ = open1(t, "memory:left").Close(ctx)
	namedMu.Lock()
	defer namedMu.Unlock()
	if named["left"] != nil {
		t.Error("the name is still known")
	}
}

func TestOpenRefusesMore(t *testing.T) {
	for _, url := range []string{
		"memory:a?x=1", "memory://a?x=1", "memory:?", "memory://a/b", "memory:/a", "memory:a/b", "memory:///",
		"memory:a?rabbitmq=", "memory:a?rabbitmq=4.1", "memory:a?queue_type=quorum", "memory:?rabbitmq=%zz", "memory:?rabbitmq=4.0;x",
		"memory://user:secret@a", "memory://user@", "memory://a:80", "memory:a#f", "memory:a%20b", "memory://é",
	} {
		_, err := adapters.Open(ctx, url)
		if err == nil {
			t.Errorf("%s was accepted", url)
			continue
		}
		wantErr(t, url, err, adapters.ErrInvalid)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err := adapters.Open(ended, "memory:")
	wantErr(t, "ended ctx", err, context.Canceled)
}

func TestOpenChoosesWhatIsImitated(t *testing.T) {
	for url, want := range map[string]urlOptions{
		"memory:":                        {Newest, false},
		"memory:?rabbitmq=4.3":           {RabbitMQ43, false},
		"memory:imitating?rabbitmq=3.10": {RabbitMQ310, false},
		"memory://imitates?queue_type=classic&rabbitmq=4.0": {RabbitMQ40, true},
		"memory://?queue_type=classic":                      {Newest, true},
	} {
		b := open1(t, url).Broker()
		if got := (urlOptions{b.Version(), b.classic}); got != want {
			t.Errorf("%s imitates %v, want %v", url, got, want)
		}
	}
}

func TestANamedBrokerImitatesOneVersion(t *testing.T) {
	first := open1(t, "memory:old?rabbitmq=3.10")
	if second := open1(t, "memory:old"); second.Broker() != first.Broker() {
		t.Error("who does not care got another broker")
	}
	open1(t, "memory:old?rabbitmq=3.10")
	for _, url := range []string{"memory:old?rabbitmq=4.3", "memory:old?rabbitmq=3.10&queue_type=classic"} {
		_, err := adapters.Open(ctx, url)
		wantErr(t, url, err, adapters.ErrMismatch)
	}
}

func TestUnknownVersions(t *testing.T) {
	_, err := adapters.Open(ctx, "memory:?rabbitmq=3.9")
	for _, v := range versions {
		if err == nil || !strings.Contains(err.Error(), string(v)) {
			t.Errorf("the error is %v, want one that names %s", err, v)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("RabbitMQ took an unknown version")
		}
	}()
	RabbitMQ("5")
}
