package faults

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"

	"github.com/motifmq/motif/adapters/amqp"
)

// journal is what a row's drivers and buses log, down to the last word.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) logger(client string) *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug})).With("client", client)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// count returns how many lines have all of the texts.
func (j *journal) count(texts ...string) (lines int) {
next:
	for line := range strings.Lines(j.String()) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue next
			}
		}
		lines++
	}
	return lines
}

// tail returns the last lines.
func (j *journal) tail(lines int) string {
	all := strings.SplitAfter(j.String(), "\n")
	return strings.Join(all[max(0, len(all)-lines-1):], "")
}

// shows returns where one of the secrets can be read: in the log, or in one of
// the values, in any of the ways in which programs print them.
func shows(j *journal, secrets []string, values []any) (where []string) {
	for _, secret := range secrets {
		for _, s := range []string{secret, url.QueryEscape(secret), fmt.Sprintf("%x", secret), fmt.Sprintf("%d", []byte(secret))} {
			if strings.Contains(j.String(), s) {
				where = append(where, "in the log")
			}
			for _, v := range values {
				for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
					if strings.Contains(fmt.Sprintf(verb, v), s) {
						where = append(where, fmt.Sprintf("in a %T as %s", v, verb))
					}
				}
			}
		}
	}
	return where
}

// public is what a driver shows of itself.
func public(d *amqp.Driver) []any { return []any{d, d.Health(), d.Features()} }
