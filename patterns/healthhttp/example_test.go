package healthhttp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/motifmq/motif/adapters/memory"
	"github.com/motifmq/motif/patterns"
	"github.com/motifmq/motif/patterns/healthhttp"
)

func Example() {
	bus := patterns.New(memory.New().Connect())
	mux := http.NewServeMux()
	mux.Handle("GET /livez", healthhttp.Live(bus))
	mux.Handle("GET /readyz", healthhttp.Ready(bus))

	ask := func(path string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil))
		fmt.Println(path, w.Code)
	}
	ask("/livez")
	ask("/readyz")
	_ = bus.Close(context.Background())
	ask("/livez")
	ask("/readyz")
	// Output:
	// /livez 200
	// /readyz 200
	// /livez 200
	// /readyz 503
}
