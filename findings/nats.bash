# What the findings about NATS share. Sourced first, it makes a folder, with a Go
# module of the versions below, and removes it at the end. It takes Go 1.26.
#
#	program		runs the Go program on standard input, with the functions below beside it
NATS_SERVER=v2.15.2 NATS_CLIENT=v1.55.0
FINDING_FOLDER=$(mktemp -d)
trap 'rm -rf "$FINDING_FOLDER"' EXIT

program() {
	cd "$FINDING_FOLDER"
	cat >main.go
	cat >server.go <<'END'
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var folder, _ = os.MkdirTemp(".", "data")

func check(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(2)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

// start starts a server on loopback, with its data in folder.
func start() *server.Server {
	s := must(server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: folder, NoSigs: true}))
	go s.Start()
	if !s.ReadyForConnections(time.Minute) {
		check(fmt.Errorf("the server does not start"))
	}
	return s
}

func connect(s *server.Server) jetstream.JetStream {
	return must(jetstream.New(must(nats.Connect(s.ClientURL()))))
}

// expect ends the program if what was seen is not what it was.
func expect(seen bool) {
	if !seen {
		fmt.Println("this is not what was seen")
		os.Exit(1)
	}
}
END
	{
		go mod init finding && go get "github.com/nats-io/nats-server/v2@$NATS_SERVER" "github.com/nats-io/nats.go@$NATS_CLIENT" && go mod tidy
	} >log 2>&1 || { cat log >&2; exit 2; }
	echo "nats-server $NATS_SERVER, nats.go $NATS_CLIENT"
	GOWORK=off go run .
}
