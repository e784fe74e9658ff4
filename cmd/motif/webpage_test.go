package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
)

// fits checks that the page is no wider than its window; on a phone, that the cells of a letter are
// below each other, too.
func (c *chromium) fits() {
	c.t.Helper()
	if wide := c.eval("document.documentElement.scrollWidth").(float64); wide > float64(c.width) { // innerWidth grows with it
		c.t.Errorf("the page is %v pixels wide, in a window of %d", wide, c.width)
	}
	if narrow := c.eval(`[...document.querySelectorAll("tr.letter td:not(.choice)")].filter((e) => e.clientWidth < 250).map((e) => e.innerText).join()`); c.phone && narrow != "" {
		c.t.Errorf("cells are narrow: %v", narrow)
	}
}

func (c *chromium) isQuiet() {
	c.t.Helper()
	if faults := c.takeFaults(); len(faults) > 0 {
		c.t.Errorf("the page complains of: %q", faults)
	}
}

// TestWebShowsHostileLetters: what is in a letter is text on the page, and cut.
func TestWebShowsHostileLetters(t *testing.T) {
	s := newSite(t)
	s.three(t)
	s.buryHostile(t)
	site := startWeb(t)
	c := newChromium(t)
	c.resize(1280, 900, false)
	c.open(site.url)
	if url := fmt.Sprint(c.eval("location.href")); strings.Contains(url, site.key) {
		t.Errorf("the key can still be seen: %s", url)
	}
	c.untilText("#mode", "read-only")
	c.click(`#queues button[data-letters="orders.dead"]`)
	c.untilText("#dead-count", "6 of 6 letters in orders.dead")
	for n, want := range []string{"no spoon", "no bowl", "no spoon", `<script>document.title='owned'</script>`, `\x1b[31mred\x1b]0;owned\x07 \u202eturned\u2066 \x00\xff`, "16773120 bytes more"} {
		row := fmt.Sprintf("#letters tr.letter:nth-of-type(%d) button.explain", n+1)
		c.click(row)
		c.untilText("#letters tr.details", want)
		c.untilText("#letters tr.details", `A replay sends it to queue "orders"`)
		if n >= 3 {
			c.shoot(fmt.Sprintf("hostile-%d", n))
		}
		c.click(row)
		c.until(`!document.querySelector("tr.details")`)
	}
	if title := c.eval("document.title"); title != "motif" {
		t.Errorf("the title is now %q", title)
	}
	c.until(`!document.querySelector("#owned, #letters script, #letters img, #letters svg")`)
	c.isQuiet()

	// Even a page that was so careless as to make HTML of a letter would not run it.
	c.eval(`(() => { try { document.body.innerHTML = "<img src=x onerror='document.title=1'>" } catch { document.title = "refused" } })()`)
	c.until(`document.title === "refused"`)
	c.takeFaults()
}

// TestWebRepairs: letters are picked, replayed and deleted with real clicks, each behind a
// question.
func TestWebRepairs(t *testing.T) {
	s := newSite(t)
	s.three(t)
	site := startWeb(t, "-write")
	c := newChromium(t)
	c.resize(1280, 900, false)
	c.open(site.url)
	c.untilText("#mode", "may replay and delete")
	c.click(`#queues button[data-letters="orders.dead"]`)
	c.untilText("#dead-count", "3 of 3")

	// The filter.
	for _, f := range []struct{ field, text, want string }{
		{"reason", "spoon", "2 of 3"},
		{"reason", "", "3 of 3"},
		{"path", "price=9", "1 of 3"},
		{"path", "", "3 of 3"},
		{"header", "table=8", "0 of 3"},
		{"header", "", "3 of 3"},
		{"older", "1h", "0 of 3"},
		{"older", "", "3 of 3"},
		{"from", "elsewhere", "0 of 3"},
		{"from", "orders", "3 of 3"},
	} {
		c.write(`#filter [name=`+f.field+`]`, f.text)
		c.click("#look")
		c.untilText("#dead-count", f.want+" letters")
	}
	c.isQuiet()
	for _, f := range []struct{ field, text, want string }{{"reason", "(", "-reason"}, {"path", "a[", "brackets"}, {"younger", "soon", "is a duration"}} {
		c.write(`#filter [name=`+f.field+`]`, f.text)
		c.click("#look")
		c.untilText("#dead-problem", f.want)
		c.until(`document.querySelector("#actions").hidden && !document.querySelector("tr.letter")`)
		c.write(`#filter [name=`+f.field+`]`, "")
	}
	c.takeFaults() // of the answers 400
	c.write(`#filter [name=reason]`, "bowl")
	c.click("#look")
	c.untilText("#dead-count", "1 of 3")

	// Replay: not without the answer yes.
	c.until(`document.querySelector("#replay").disabled && document.querySelector("#drop").disabled`)
	c.click("tr.letter input")
	c.click("#replay")
	c.untilText("#confirm-head", "Replay 1 letter?")
	c.shoot("confirm-replay")
	c.click("#to")
	c.call("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}, nil)
	c.until(`document.querySelector("#confirm").open`)
	c.click("#cancel")
	c.until(`!document.querySelector("#confirm").open`)
	if got := s.waiting(t, "orders"); len(got) != 0 {
		t.Errorf("sent without a yes: %q", got)
	}
	c.click("#replay")
	c.click("#yes")
	c.untilText("#runs", "✓ Replaying from orders.dead: 1 sent.")
	if got := s.waiting(t, "orders"); fmt.Sprint(got) != `[b {"dish":"ramen","price":9}]` {
		t.Errorf("sent %q", got)
	}
	c.untilText("#dead-count", "0 of 2")

	// Drop.
	c.write(`#filter [name=reason]`, "")
	c.click("#look")
	c.untilText("#dead-count", "2 of 2")
	c.click("tr.letter:nth-of-type(2) input")
	c.click("#drop")
	c.untilText("#confirm-text", "nothing brings it back")
	c.shoot("confirm-drop")
	c.click("#cancel")
	c.click("#drop")
	c.click("#yes")
	c.untilText("#runs", "✓ Deleting from orders.dead: 1 deleted.")
	c.untilText("#dead-count", "1 of 1")
	if got := s.waiting(t, "orders.dead"); fmt.Sprint(got) != `[a {"dish":"soup","price":3}]` {
		t.Errorf("left %q", got)
	}

	// What fails is said, and stays.
	c.click("tr.letter input")
	c.click("#replay")
	c.write("#to", "nowhere")
	c.click("#yes")
	c.untilText("#runs li", "Failed: letter a to queue \"nowhere\"")
	c.untilText("#totals .bad", "Failed")
	c.untilText("#dead-count", "1 of 1")
	if got := c.text("#totals"); strings.Join(strings.Fields(got), " ") != "Sent 1 Deleted 1 Died again 0 Failed 1 May be double 0" {
		t.Errorf("the totals are %q", got)
	}
	c.isQuiet()

	c.shoot("outcomes")
	c.call("Emulation.setEmulatedVisionDeficiency", map[string]any{"type": "achromatopsia"}, nil)
	c.shoot("outcomes-without-colour")
	c.call("Emulation.setEmulatedVisionDeficiency", map[string]any{"type": "none"}, nil)
	c.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": "dark"}}}, nil)
	c.shoot("outcomes-dark")
	c.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{}}, nil)
	c.fits()
	c.resize(390, 844, true)
	c.click("tr.letter button.explain")
	c.untilText("tr.details", "no spoon")
	c.fits()
	c.shoot("phone")
	c.click("tr.letter input")
	c.click("#drop")
	c.untilText("#confirm-head", "Delete 1 letter?")
	c.fits()
	c.shoot("phone-confirm")
}

// TestWebFollowsARun: counts and depths change while a run goes on, which can be stopped; and what
// is more than the page shows can be picked.
func TestWebFollowsARun(t *testing.T) {
	s := newSite(t)
	s.three(t)
	for n := range 400 {
		s.bury(t, message.NewMessage(fmt.Sprint("n", n), []byte("{}")))
	}
	site := startWeb(t, "-write")
	c := newChromium(t)
	c.resize(1280, 900, false)
	c.open(site.url)
	c.click(`#queues button[data-letters="orders.dead"]`)
	c.untilText("#dead-count", "403 of 403 letters in orders.dead, of which the first 200 are shown")
	c.click("#all-shown")
	c.untilText("#chosen", "200 letters")
	c.click("#all")
	c.untilText("#chosen", "403 letters")
	c.click("#replay")
	c.untilText("#confirm-head", "Replay 403 letters?")
	c.write("#rate", "4")
	c.click("#yes")
	for n := 2; n < 6; n += 2 {
		c.until(fmt.Sprintf(`Number(/(\d+) sent so far/.exec(document.querySelector("#runs").innerText)?.[1]) >= %d`, n))
	}
	c.until(`document.querySelector("#totals dd").textContent >= 4`)
	c.until(`new Set(document.querySelector("#queues polyline").getAttribute("points").split(" ").map((p) => p.split(",")[1])).size > 1`)
	c.isQuiet()
	c.click("#look") // nobody looks into a queue meanwhile
	c.untilText("#dead-problem", "a replay is under way")
	status, answer, _ := site.ask(t, "POST", "/api/drop", `{"queue": "orders.dead", "all": true, "limit": 1}`, nil)
	if status != http.StatusConflict || !strings.Contains(answer, "busy") {
		t.Errorf("a drop during a replay: %d, %s", status, answer)
	}
	c.shoot("running")
	c.click("#runs button")
	c.untilText("#runs", "it was stopped")
	c.untilText("#dead-count", "of which the first")
	if sent, left := len(s.waiting(t, "orders")), len(s.waiting(t, "orders.dead")); sent < 4 || left != 100 { // which is what waiting looks at
		t.Errorf("%d sent, %d left", sent, left)
	}
	if left, err := filepath.Glob(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "motif", "*")); err != nil || len(left) > 1 {
		t.Errorf("journals are left: %q, %v", left, err)
	}
}

// TestWebReadOnly: without -write the page has nothing to repair with, and the server refuses it;
// a name that is not ours is refused, too.
func TestWebReadOnly(t *testing.T) {
	s := newSite(t)
	s.three(t)
	site := startWeb(t, "orders")
	c := newChromium(t)
	c.resize(1280, 900, false)
	c.open(site.url)
	c.untilText("#mode", "read-only")
	c.click(`#queues button[data-letters="orders.dead"]`)
	c.untilText("#dead-count", "3 of 3")
	c.until(`!document.querySelector("#replay").checkVisibility() && !document.querySelector("#drop").checkVisibility() && !document.querySelector("#letters input")`)
	c.isQuiet()
	for path, body := range map[string]string{"replay": `{"queue": "orders.dead", "all": true, "limit": 3}`, "drop": `{"queue": "orders.dead", "all": true, "limit": 3}`, "stop": `{"id": 1}`} {
		if status, answer, _ := site.ask(t, "POST", "/api/"+path, body, nil); status != http.StatusForbidden || !strings.Contains(answer, "-write") {
			t.Errorf("%s: %d, %s", path, status, answer)
		}
	}
	if got := s.waiting(t, "orders.dead"); len(got) != 3 {
		t.Errorf("left %q", got)
	}
	c.open(strings.Replace(site.url, "127.0.0.1", "evil.example", 1)) // which leads to 127.0.0.1, too
	c.untilText("body", "reached by an IP address")
	c.open(site.base + "/")
	c.eval(`sessionStorage.clear()`)
	c.open(site.base + "/")
	c.untilText("#problem", "the key is missing")
	c.takeFaults()
}
