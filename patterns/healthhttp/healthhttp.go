// Package healthhttp shows the health of a bus over HTTP, for an orchestrator's probes:
//
//	mux.Handle("GET /livez", healthhttp.Live(bus))
//	mux.Handle("GET /readyz", healthhttp.Ready(bus))
//
// The two answer different questions. Live fails where only a restart of the process may help: a
// subscription has ended with an error, or a handler does not return though its time is over. Ready
// fails then, too, and while the bus cannot do its work for other reasons: a connection is lost,
// the broker takes no messages, the bus is closed. It is ready again as soon as the reason has
// passed. A process must not be killed for these: Motif reconnects by itself, and what was in hand
// would only come again.
//
// The body is JSON, a [Report], for people: it names what is wrong. It has names of queues and
// brokers, ids of messages and texts of errors in it, and no payload, header or credential; it is
// not for the public.
package healthhttp

import (
	"encoding/json"
	"net/http"

	"github.com/motifmq/motif/patterns"
)

// Report is what the handlers answer with.
type Report struct {
	OK       bool               `json:"ok"`       // false: the status is 503
	Problems []patterns.Problem `json:"problems"` // all there are, also with OK
	Health   patterns.Health    `json:"health"`
}

// Live returns a handler that answers 200, or 503 while there is a problem that lasts.
func Live(bus *patterns.Bus) http.Handler {
	return handler(bus, func(p []patterns.Problem) bool { return len(p) == 0 || !p[0].Lasting })
}

// Ready returns a handler that answers 200, or 503 while there is any problem.
func Ready(bus *patterns.Bus) http.Handler {
	return handler(bus, func(p []patterns.Problem) bool { return len(p) == 0 })
}

func handler(bus *patterns.Bus, ok func([]patterns.Problem) bool) http.Handler {
	_ = bus.Health() // from now on its workers note when messages come
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := bus.Health()
		r := Report{Problems: h.Problems(), Health: h}
		r.OK = ok(r.Problems)
		body, err := json.MarshalIndent(r, "", "  ")
		if err != nil { // a broken type of ours, which is no reason to kill anybody
			body = []byte("{}")
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !r.OK {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = w.Write(append(body, '\n')) // who does not wait for it does not want it
	})
}
