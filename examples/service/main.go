// Service is a whole service: HTTP requests in, work in the background, health, logs, shutdown.
//
//	go run ./examples/service
//	curl -i -d '{"dish": "ramen"}' http://localhost:8080/orders
//	curl -i http://localhost:8080/readyz
//
// POST /orders answers 202 only once the broker has the order, so the client may rely on it. A 503
// means that the order was not stored, or that nobody knows: the client sends it again.
//
// Ctrl-C ends the service in two steps. First the HTTP server stops: requests that have begun are
// answered, and the worker goes on, because its context is not the one that Ctrl-C ends. Then the
// bus is closed: orders in hand are finished, and the rest stays in the queue.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/motifmq/motif/examples/internal/demo"
	"github.com/motifmq/motif/middleware"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/healthhttp"
)

// Order is what a client sends and a worker ships.
type Order struct {
	Dish string `json:"dish"`
}

type service struct {
	bus    *patterns.Bus
	orders *patterns.WorkQueue[Order]
	log    *slog.Logger
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /orders", s.order)
	mux.Handle("GET /livez", healthhttp.Live(s.bus))
	mux.Handle("GET /readyz", healthhttp.Ready(s.bus))
	return mux
}

func (s *service) order(w http.ResponseWriter, r *http.Request) {
	var o Order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&o); err != nil {
		http.Error(w, "no order: "+err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := s.orders.Send(ctx, o); err != nil {
		s.log.ErrorContext(ctx, "order not taken", "error", err)
		http.Error(w, "not now, try again", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func (s *service) ship(ctx context.Context, o Order) error {
	s.log.InfoContext(ctx, "shipping", "dish", o.Dish)
	return nil
}

func main() { demo.Main(run) }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var opts demo.Options
	flags := demo.Flags("service", &opts)
	address := flags.String("http", "localhost:8080", "`address` to listen on")
	if err := flags.Parse(args); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(out, nil))
	bus, closeBus, err := opts.Open(ctx, patterns.WithLogger(log), middleware.Log(log))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBus()) }() // last, and within ten seconds

	s := &service{bus: bus, orders: patterns.NewWorkQueue[Order](bus, "service"), log: log}
	worker, err := s.orders.Work(context.WithoutCancel(ctx), s.ship, patterns.Workers(8), patterns.DrainTimeout(5*time.Second))
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", *address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.routes(), ReadTimeout: 10 * time.Second}
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(listener) }()
	go func() { ended <- worker.Wait() }()
	log.InfoContext(ctx, "listening", "address", listener.Addr())

	select {
	case <-ctx.Done():
	case err = <-ended: // the server or the worker failed, and one is no use without the other
	}
	log.InfoContext(ctx, "shutting down")
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(stopping))
}
