package middleware_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
)

func TestLog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	bubble(t, func(t *testing.T, bus *patterns.Bus, _ *memory.Broker) {
		topic := patterns.NewTopic[int](bus, "news")
		must(t, topic.Declare(t.Context(), []string{"#"}, patterns.Group("g")))
		must(t, topic.Publish(t.Context(), "a", 1, patterns.MessageID("m1")))
		time.Sleep(time.Second)
		_, err := topic.Subscribe(t.Context(), []string{"#"}, func(ctx context.Context, _ int) error {
			time.Sleep(time.Millisecond)
			if d, _ := patterns.DeliveryFrom(ctx); d.Attempt == 1 {
				return patterns.RetryAfter(time.Minute, errDown)
			}
			return nil
		}, patterns.Group("g"))
		must(t, err)
		time.Sleep(time.Hour)
		must(t, patterns.NewTopic[string](bus, "news").Publish(t.Context(), "a", "secret", patterns.MessageID("m2")))
		time.Sleep(time.Hour)
		synctest.Wait()
	}, middleware.Log(log))
	want := `level=WARN msg="message retried" result=retried source=news id=m1 attempt=1 duration=1ms group=g key=a in_queue=1s retry_in=1m0s error="the shop is down"
level=INFO msg="message acknowledged" result=acknowledged source=news id=m1 attempt=2 duration=1ms group=g key=a
level=ERROR msg="message dead-lettered" result=dead-lettered source=news id=m2 attempt=1 duration=0s group=g key=a error="motif: codec"
`
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}
