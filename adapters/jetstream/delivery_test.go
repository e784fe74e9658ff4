package jetstream

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"

	"github.com/motifmq/motif/adapters"
)

// refusing answers for a queue that has no stream: no, as often as times says, then yes.
func refusing(t *testing.T, nc *nats.Conn, subject string, times int) {
	t.Helper()
	subscribeTo(t, nc, subject, func(m *nats.Msg) {
		answer := `{"stream":"MOTIF_Q_other","seq":1}`
		if times > 0 {
			answer = `{"error":{"code":503,"err_code":10077,"description":"no room"}}`
		}
		times--
		_ = m.Respond([]byte(answer))
	})
}

func subscribeTo(t *testing.T, nc *nats.Conn, subject string, take func(*nats.Msg)) {
	t.Helper()
	if _, err := nc.Subscribe(subject, take); err != nil {
		t.Fatal(err)
	}
}

// settlements returns what the server is told of the messages of a queue from now on.
func settlements(t *testing.T, nc *nats.Conn, queue string) <-chan string {
	t.Helper()
	words := make(chan string, 100)
	subscribeTo(t, nc, "$JS.ACK."+nameQueue(queue).stream()+".>", func(m *nats.Msg) {
		if word := string(m.Data); word != string(ackProgress) {
			words <- word
		}
	})
	return words
}

func expect(t *testing.T, words <-chan string, want ...string) {
	t.Helper()
	for _, want := range want {
		select {
		case got := <-words:
			if got != want {
				t.Fatalf("the server was told %s, want %s", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("the server was not told %s", want)
		}
	}
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// An expired message whose dead-letter queue refuses it is tried again, after a pause that grows,
// and the log says so.
func TestExpiredIsRefused(t *testing.T) {
	d, s, log := embedded(t), source("q", 1), &lines{}
	d.SetLogger(slog.New(slog.NewTextHandler(log, nil)))
	s.Queue.DeadLetter = "dead"
	subscribe(t, d, s)
	ses := d.session
	if err := ses.js.DeleteStream(t.Context(), nameQueue("dead").stream()); err != nil {
		t.Fatal(err)
	}
	refusing(t, ses.nc, nameQueue("dead").subject(), 3)
	words := settlements(t, ses.nc, "q")
	p := adapters.Publication{To: s.Endpoint, Properties: adapters.Properties{TTL: time.Microsecond}}
	if err := d.Publish(t.Context(), p, message.NewMessage("m", nil)); err != nil {
		t.Fatal(err)
	}
	expect(t, words, `-NAK {"delay":100000000}`, `-NAK {"delay":200000000}`, `-NAK {"delay":400000000}`, "+ACK")
	if log.count("did not become a dead letter") == 0 {
		t.Error("nothing was logged")
	}
}

func TestAckLater(t *testing.T) {
	for returned, want := range map[int]string{0: "100000000", 9: "51200000000", 10: "60000000000", 1 << 30: "60000000000"} {
		if got := string((&delivery{returned: returned}).ackLater()); got != `-NAK {"delay":`+want+"}" {
			t.Errorf("after %d times: %s", returned, got)
		}
	}
}

// What goes wrong all the time is logged once a minute.
func TestWarn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		d := &Driver{log: slog.New(slog.NewTextHandler(log, nil)), warned: map[string]time.Time{}}
		for range 121 {
			d.warn("one")
			d.warn("other")
			time.Sleep(time.Second)
		}
		if one, other := log.count("one"), log.count("other"); one != 3 || other != 3 {
			t.Errorf("in two minutes logged %d and %d times", one, other)
		}
	})
}
