package onbrokers

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/motifmq/motif/internal/kafkatest"
)

// refused are the examples that a broker cannot carry, with the ability that it lacks for them.
type refused map[string]string

var (
	onJetStream = refused{"boundedqueue": "queues of bounded length"}
	onKafka     = refused{
		"boundedqueue": "queues of bounded length",
		"deadletters":  "taking single messages",
		"durable":      "taking single messages",
		"fairdispatch": "", // is tested apart: a group is dealt records as the broker likes
		"fib":          "reply addresses",
		"middleware":   "taking single messages",
		"order":        "requeue in place",
		"testing":      "taking single messages",
		"types":        "taking single messages",
	}
)

// testJetStream runs the examples on a server in their own process.
func (p programs) testJetStream(t *testing.T) {
	t.Parallel()
	p.others(t, "jetstream://"+t.TempDir(), "jetstream", onJetStream)
	url := "jetstream://" + t.TempDir()
	t.Run("durable", func(t *testing.T) { // each process is a restart of the broker
		sent := p.run(t, "durable", "-broker", url, "-role", "send")
		want := strings.Replace(p.run(t, "durable"), "restarted the broker\n", "", 1)
		want = strings.Replace(want, "declaring", "still there: cache hint\ndeclaring", 1) // what is transient is kept, too
		if got := sent + p.run(t, "durable", "-broker", url, "-role", "check"); got != want {
			t.Errorf("printed:\n%s\nwant:\n%s", got, want)
		}
	})
	t.Run("observability", func(t *testing.T) { p.same(t, url, "observability", nil) })
	t.Run("service", func(t *testing.T) { p.serves(t, url) })
}

// testKafka runs the examples on a node of Kafka.
func (p programs) testKafka(t *testing.T) {
	t.Parallel()
	node, err := kafkatest.Start(t.Context())
	if err != nil && os.Getenv("MOTIF_BROKER") == "skip" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	p.others(t, node.URL, "kafka", onKafka)
	t.Run("fairdispatch", func(t *testing.T) {
		printed := p.run(t, "fairdispatch", "-broker", node.URL)
		if !regexp.MustCompile(`(?s)^prefetch 20: slow handled .*\nprefetch  1: slow handled  [1-9], fast 1[1-9], `).MatchString(printed) {
			t.Errorf("the slow one does not get less:\n%s", printed)
		}
	})
	t.Run("observability", func(t *testing.T) { p.same(t, node.URL, "observability", nil) })
	t.Run("service", func(t *testing.T) { p.serves(t, node.URL) })
}

// others runs the examples on a broker that cannot carry all of them.
func (p programs) others(t *testing.T, url, adapter string, not refused) {
	p.each(t, url, func(t *testing.T, url, name string, args []string) {
		if _, is := not[name]; !is {
			p.same(t, url, name, args)
		}
	})
	for name, ability := range not {
		if ability != "" {
			t.Run("refused "+name, func(t *testing.T) { p.refuses(t, url, name, adapter, ability) })
		}
	}
}

// refuses checks that an example says in one line what a broker cannot do, and does nothing else.
func (p programs) refuses(t *testing.T, url, name, adapter, ability string) {
	args := []string{"-broker", url}
	if name == "durable" {
		args = append(args, "-role", "send")
	}
	e := p.start(t, name, args...)
	<-e.ended
	says := e.errors.String()
	want := "motif: adapter " + adapter + " does not support " + ability + "\n"
	if e.err == nil || e.cmd.ProcessState.ExitCode() != 1 || e.out.text() != "" || !strings.HasSuffix(says, want) || strings.Count(says, "\n") != 1 {
		t.Errorf("%v, it printed %q and said %q, want exit status 1 and one line that ends with %q", e.err, e.out.text(), says, want)
	}
}

// serves checks that an order that the service takes is shipped.
func (p programs) serves(t *testing.T, broker string) {
	service := p.start(t, "service", "-broker", broker, "-http", "127.0.0.1:0")
	service.until(t, "msg=listening")
	url := "http://" + regexp.MustCompile(`msg=listening address=(\S+)`).FindStringSubmatch(service.out.text())[1]
	awaitStatus(t, http.StatusOK, http.MethodGet, url+"/readyz", "")
	awaitStatus(t, http.StatusAccepted, http.MethodPost, url+"/orders", `{"dish": "ramen"}`)
	service.until(t, "msg=shipping dish=ramen")
	if out := service.interrupt(t); !strings.Contains(out, `msg="shutting down"`) {
		t.Errorf("printed:\n%s", out)
	}
}
