package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/rabbitmq/amqp091-go"
)

// A Machine is where the figures are from.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory string `json:"memory,omitempty"`
	System string `json:"system"`
	Go     string `json:"go"`
	Broker string `json:"broker,omitempty"`
	When   string `json:"when"`
}

func (m Machine) String() string {
	parts := []string{fmt.Sprintf("%s, %d cores", m.CPU, m.Cores)}
	for _, part := range []string{m.Memory, m.System, m.Go, m.Broker, m.When} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}

// describeMachine finds out what it can; the broker is asked what it is.
func describeMachine(url string) Machine {
	m := Machine{
		CPU: runtime.GOARCH, Cores: runtime.NumCPU(), System: runtime.GOOS, Go: runtime.Version(),
		When: time.Now().UTC().Format(time.DateOnly),
	}
	if name := lookUp("/proc/cpuinfo", "model name"); name != "" {
		m.CPU = name
	}
	if kb, err := strconv.Atoi(strings.TrimSuffix(lookUp("/proc/meminfo", "MemTotal"), " kB")); err == nil {
		m.Memory = fmt.Sprintf("%.0f GiB", float64(kb)/(1<<20))
	}
	if version, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.System = "Linux " + strings.TrimSpace(string(version))
	}
	if url == "" {
		return m
	}
	if conn, err := amqp091.Dial(url); err == nil {
		defer conn.Close()
		m.Broker = fmt.Sprintf("%v %v, %v", conn.Properties["product"], conn.Properties["version"], conn.Properties["platform"])
		if !isLoopback(conn.RemoteAddr()) {
			m.Broker += " on another machine"
		}
	}
	return m
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// lookUp finds the value of "key : value" in a file.
func lookUp(file, key string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
