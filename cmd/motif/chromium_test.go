package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A chromium is a headless browser with one page, which a test uses as a person does: it clicks and
// types where something can be seen. It is driven over the pipe of the DevTools protocol.
type chromium struct {
	t       testing.TB
	to      *os.File
	session string // the page's
	width   int
	phone   bool

	mu      sync.Mutex
	next    int
	waiting map[int]chan devtoolsMessage
	faults  []string      // what the page's console has of errors
	ended   chan struct{} // once nothing comes from it any more
}

type devtoolsMessage struct {
	ID     int             `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
	SessionID string `json:"sessionId,omitempty"`
}

const browserPatience = time.Minute // only a fault takes so long

// newChromium starts a browser that ends with the test. One that is missing fails the test, as a
// missing RabbitMQ does.
func newChromium(t testing.TB) *chromium {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	switch {
	case program == "" && os.Getenv("MOTIF_BROKER") == "skip":
		t.Skip("Chromium is missing, and MOTIF_BROKER=skip")
	case program == "":
		t.Fatal("Chromium is missing: make chromium installs it on Debian, as root; MOTIF_BROKER=skip skips what needs it")
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, kill := context.WithCancel(context.Background()) // it ends after the test's own
	cmd := exec.CommandContext(ctx, program, "--headless", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "--no-first-run", "--disable-gpu",
		"--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
		"--no-sandbox", // which root needs; nothing is opened but our own page
		"--host-resolver-rules=MAP evil.example 127.0.0.1")
	cmd.ExtraFiles = []*os.File{theirIn, theirOut} // 3 and 4
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirIn.Close()
	theirOut.Close()
	c := &chromium{t: t, to: in, waiting: map[int]chan devtoolsMessage{}, ended: make(chan struct{})}
	go c.read(out)
	t.Cleanup(func() {
		in.Close() // it ends when the pipe does
		timer := time.AfterFunc(10*time.Second, kill)
		_ = cmd.Wait()
		timer.Stop()
		kill()
		<-c.ended
		out.Close()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("Chromium says:\n%s\nthe page complains of: %q", text, c.faults)
		}
		log.Close()
	})
	var target struct {
		TargetID string `json:"targetId"`
	}
	c.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct {
		SessionID string `json:"sessionId"`
	}
	c.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	c.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		c.call(domain+".enable", nil, nil)
	}
	return c
}

// read takes what comes until the browser has ended.
func (c *chromium) read(from *os.File) {
	defer close(c.ended)
	r := bufio.NewReader(from)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m devtoolsMessage
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		c.mu.Lock()
		if w, ok := c.waiting[m.ID]; ok && m.ID > 0 {
			delete(c.waiting, m.ID)
			w <- m
		}
		if m.Method == "Runtime.exceptionThrown" || m.Method == "Log.entryAdded" && strings.Contains(string(m.Params), `"level":"error"`) {
			c.faults = append(c.faults, string(m.Params))
		}
		c.mu.Unlock()
	}
}

// takeFaults returns what the page has complained of since the last time.
func (c *chromium) takeFaults() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	faults := c.faults
	c.faults = nil
	return faults
}

// call calls a method of the protocol.
func (c *chromium) call(method string, params map[string]any, result any) {
	c.t.Helper()
	if params == nil {
		params = map[string]any{}
	}
	raw, err := json.Marshal(params)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.next++
	id, answer := c.next, make(chan devtoolsMessage, 1)
	c.waiting[id] = answer
	c.mu.Unlock()
	text, err := json.Marshal(devtoolsMessage{ID: id, Method: method, Params: raw, SessionID: c.session})
	if err == nil {
		_, err = c.to.Write(append(text, 0))
	}
	if err != nil {
		c.t.Fatal(err)
	}
	select {
	case m := <-answer:
		err = nil
		if m.Error != nil {
			err = errors.New(m.Error.Message)
		} else if result != nil {
			err = json.Unmarshal(m.Result, result)
		}
		if err != nil {
			c.t.Fatalf("%s: %v", method, err)
		}
	case <-c.ended:
		c.t.Fatalf("%s: Chromium has ended", method)
	case <-time.After(browserPatience):
		c.t.Fatalf("%s: no answer", method)
	}
}

// eval runs a script and returns what it does, decoded from JSON.
func (c *chromium) eval(script string) any {
	c.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails *struct {
			Exception struct{ Description string }
		}
	}
	c.call("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true}, &r)
	if r.ExceptionDetails != nil {
		c.t.Fatalf("%s: %s", script, r.ExceptionDetails.Exception.Description)
	}
	return r.Result.Value
}

// text returns the text that can be seen in the elements of a selector.
func (c *chromium) text(selector string) string {
	c.t.Helper()
	return fmt.Sprint(c.eval(`[...document.querySelectorAll(` + quoted(selector) + `)].map((e) => e.innerText).join("\n")`))
}

// until waits until a script returns true.
func (c *chromium) until(script string) {
	c.t.Helper()
	for end := time.Now().Add(browserPatience); c.eval(script) != true; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("never: %s\nthe page has:\n%s", script, c.eval("document.body.innerText"))
		}
	}
}

// untilText waits until elements can be seen that have a text.
func (c *chromium) untilText(selector, text string) {
	c.t.Helper()
	c.until(`[...document.querySelectorAll(` + quoted(selector) + `)].some((e) => e.checkVisibility() && e.innerText.includes(` + quoted(text) + `))`)
}

// open goes to an address.
func (c *chromium) open(url string) {
	c.t.Helper()
	c.call("Page.navigate", map[string]any{"url": "about:blank"}, nil) // a new fragment alone loads nothing
	c.until(`location.href === "about:blank"`)
	c.call("Page.navigate", map[string]any{"url": url}, nil)
	c.until(`location.href !== "about:blank" && document.readyState === "complete"`)
}

// click clicks with the mouse at the middle of an element, once nothing covers it.
func (c *chromium) click(selector string) {
	c.t.Helper()
	find := `(() => {
		const e = document.querySelector(` + quoted(selector) + `);
		if (!e || e.disabled) return null;
		e.scrollIntoView({ block: "center", behavior: "instant" });
		const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;
		return e.contains(document.elementFromPoint(x, y)) ? [x, y] : null;
	})()`
	c.until(`!!` + find)
	point := c.eval(find).([]any)
	for _, kind := range []string{"mouseMoved", "mousePressed", "mouseReleased"} {
		c.call("Input.dispatchMouseEvent", map[string]any{"type": kind, "x": point[0], "y": point[1], "button": "left", "clickCount": 1}, nil)
	}
}

// write clicks into a field and types a text in place of what is there.
func (c *chromium) write(selector, text string) {
	c.t.Helper()
	c.click(selector)
	c.eval(`document.querySelector(` + quoted(selector) + `).select()`)
	if text == "" {
		for _, kind := range []string{"keyDown", "keyUp"} {
			c.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Delete", "code": "Delete", "windowsVirtualKeyCode": 46}, nil)
		}
		return
	}
	c.call("Input.insertText", map[string]any{"text": text}, nil)
}

// resize gives the page the size of a window, or of a phone.
func (c *chromium) resize(width, height int, phone bool) {
	c.t.Helper()
	c.width, c.phone = width, phone
	c.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}, nil)
}

// shoot saves what the page looks like, in MOTIF_SCREENSHOTS if that is a folder.
func (c *chromium) shoot(name string) {
	c.t.Helper()
	var shot struct{ Data string }
	c.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &shot)
	image, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil || len(image) < 1000 {
		c.t.Errorf("a screenshot of %d bytes: %v", len(image), err)
	}
	folder := os.Getenv("MOTIF_SCREENSHOTS")
	if folder == "" {
		folder = c.t.TempDir()
	}
	if err := os.WriteFile(filepath.Join(folder, name+".png"), image, 0o644); err != nil {
		c.t.Error(err)
	}
}
