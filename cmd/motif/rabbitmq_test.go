package main

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

func TestMain(m *testing.M) { amqptest.Main(m) }

// TestOnRabbitMQ: the commands do on RabbitMQ what they do in the process.
func TestOnRabbitMQ(t *testing.T) {
	vhost := amqptest.Shared(t)
	t.Setenv("MOTIF_URL", vhost.URL)
	s := siteAt(t, vhost.URL)
	s.three(t)
	for _, step := range []step{
		{args: "ping orders", want: []string{"RabbitMQ", "there and back"}, never: []string{"guest:guest"}},
		{args: "queues orders", want: []string{"orders", "3"}},
		{args: "queues", code: exitFailed, want: []string{"listing queues"}},
		{args: "dead list orders.dead", want: []string{"3 of 3", "no bowl", "counts as returned once more"}},
		{args: "dead explain orders.dead b", want: []string{`gave it up in queue "orders"`}},
		{args: "dead export orders.dead a", want: []string{`"id":"a"`}},
		{args: "dead drop orders.dead b", want: []string{"1 letters deleted, 2 left"}},
		{args: "dead replay orders.dead", want: []string{"2 letters sent, 0 left"}},
		{args: "dead list orders.dead", want: []string{"0 of 0"}},
	} {
		step.run(t)
	}
	if got := s.waiting(t, "orders"); len(got) != 2 || got[0] != `a {"dish":"soup","price":3}` || got[1] != `c {"dish":"soup","price":4}` {
		t.Errorf("sent %q", got)
	}
}

// TestWebOnRabbitMQ: the page's server does there what it does in the process.
func TestWebOnRabbitMQ(t *testing.T) {
	vhost := amqptest.Shared(t)
	t.Setenv("MOTIF_URL", vhost.URL)
	s := siteAt(t, vhost.URL)
	s.three(t)
	site := startWeb(t, "-write", "orders")
	for path, want := range map[string]string{"queues": `"counts_looks":true`, "dead?queue=orders.dead&path=dish%3Dsoup": `"matched":2,"seen":3,"unseen":0`, "runs": `"runs":[]`} {
		if status, answer, _ := site.ask(t, "GET", "/api/"+path, "", nil); status != http.StatusOK || !strings.Contains(answer, want) {
			t.Errorf("%s: %d, %s", path, status, answer)
		}
	}
	for verb, order := range map[string]string{webDrop: `{"queue": "orders.dead", "all": true, "path": ["dish=ramen"], "limit": 1}`, webReplay: `{"queue": "orders.dead", "all": true, "path": ["dish=soup"], "limit": 2}`} {
		if status, answer, _ := site.ask(t, "POST", "/api/"+verb, order, nil); status != http.StatusOK {
			t.Fatalf("%s: %d, %s", verb, status, answer)
		}
		soon(t, func() bool {
			_, answer, _ := site.ask(t, "GET", "/api/runs", "", nil)
			return !strings.Contains(answer, `"ended":false`)
		})
	}
	_, answer, _ := site.ask(t, "GET", "/api/runs", "", nil)
	if want := `"totals":{"sent":2,"removed":1,"recognized":0,"came_back":0,"failed":0,"doubtful":0}`; !strings.Contains(answer, want) {
		t.Errorf("no %s in %s", want, answer)
	}
	if got := s.waiting(t, "orders"); len(got) != 2 {
		t.Errorf("sent %q", got)
	}
	if got := s.waiting(t, "orders.dead"); len(got) != 0 {
		t.Errorf("left %q", got)
	}
}

// TestRightsAreNamed: what a user may not do is said in so many words, and nothing is lost.
func TestRightsAreNamed(t *testing.T) {
	vhost := amqptest.Shared(t)
	s := siteAt(t, vhost.URL)
	s.three(t)
	reader := "reader-" + rand.Text() // users are the node's, which the test may have had before
	if err := vhost.AddUser(t.Context(), reader, "hunter2"); err != nil {
		t.Fatal(err)
	}
	if err := vhost.SetPermissions(t.Context(), reader, "^$", "^$", "^orders"); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(vhost.URLFor(reader, "hunter2"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("MOTIF_URL", u.String())
	for _, step := range []step{
		{args: "dead list orders.dead", want: []string{"3 of 3"}},
		{args: "dead replay orders.dead", code: exitFailed, want: []string{"lacks a right", "access refused"}},
		{args: "dead list other", code: exitFailed, want: []string{"lacks a right", "read access to queue 'other'"}},
		{args: "ping", code: exitFailed, want: []string{"lacks a right"}},
	} {
		step.never = []string{"hunter2"}
		step.run(t)
	}
	if got := s.waiting(t, "orders.dead"); len(got) != 3 || !strings.HasPrefix(got[0], "a ") {
		t.Errorf("left %q", got)
	}
}
