#!/usr/bin/env bash
# A cluster of JetStream that has been restarted drops requests without a word.
#
# Who asks for a stream just after all three servers were started again may get no
# answer at all: the stream has no leader for the moment, and the servers that are
# asked leave the answer to it. One would guess that the request is answered once
# there is a leader, or fails. The client waits as long as its context allows,
# although the same question, asked again, is answered within seconds. So a
# request with a generous deadline fails where several short ones do not.
#
# Which request meets that moment is chance: the servers are restarted until one has.
#
# Seen with nats-server 2.15.2, nats.go 1.55.0:
#
#	asked again each second, the cluster answered after 6 s
#	some of 4 requests that waited for 20s had no answer
#
# The first figure is another on each machine.
set -euo pipefail
. "$(dirname "$0")/nats.bash"

program <<'END'
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// run starts the three servers of a cluster.
func run(ports []int) (all []*server.Server) {
	for i := range 3 {
		o := &server.Options{
			ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: -1, JetStream: true, NoSigs: true, NoLog: true,
			StoreDir: fmt.Sprint(folder, "/", i),
			Cluster:  server.ClusterOpts{Name: "finding", Host: "127.0.0.1", Port: ports[i]},
		}
		for _, p := range ports {
			o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: fmt.Sprint("127.0.0.1:", p)})
		}
		s := must(server.NewServer(o))
		s.Start()
		all = append(all, s)
	}
	for _, s := range all {
		if !s.ReadyForConnections(time.Minute) {
			check(fmt.Errorf("a server does not start"))
		}
	}
	return all
}

func within(d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return f(ctx)
}

func main() {
	var ports []int
	for range 3 {
		l := must(net.Listen("tcp", "127.0.0.1:0"))
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		defer l.Close()
		check(l.Close())
	}
	cluster := run(ports)
	until := func(s *server.Server, f func(context.Context, jetstream.JetStream) error) {
		for began := time.Now(); ; {
			err := within(time.Second, func(ctx context.Context) error { return f(ctx, connect(s)) })
			if err == nil {
				return
			}
			if time.Since(began) > time.Minute {
				check(err)
			}
		}
	}
	until(cluster[0], func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}, Replicas: 3})
		return err
	})
	for restart := 1; restart <= 20; restart++ {
		for _, s := range cluster {
			s.Shutdown()
			s.WaitForShutdown()
		}
		cluster = run(ports)
		const patience = 20 * time.Second
		patient := make(chan error, 4)
		began := time.Now()
		for i := range cap(patient) { // asked at several moments
			go func() {
				time.Sleep(time.Duration(i) * 500 * time.Millisecond)
				patient <- within(patience, func(ctx context.Context) error {
					_, err := connect(cluster[1]).Stream(ctx, "ORDERS")
					return err
				})
			}()
		}
		until(cluster[1], func(ctx context.Context, js jetstream.JetStream) error {
			_, err := js.Stream(ctx, "ORDERS")
			return err
		})
		answered := time.Since(began)
		silent := 0
		for range cap(patient) {
			if err := <-patient; errors.Is(err, context.DeadlineExceeded) {
				silent++
			}
		}
		if silent > 0 {
			fmt.Printf("asked again each second, the cluster answered after %.0f s\n", answered.Seconds())
			fmt.Printf("some of %d requests that waited for %v had no answer\n", cap(patient), patience)
			return
		}
	}
	fmt.Println("all requests were answered, after each of 20 restarts")
	expect(false)
}
END
