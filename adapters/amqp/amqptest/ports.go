package amqptest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports below those that systems hand out themselves (from 32768 on Linux, from
// 49152 elsewhere): the port of a stopped node is not taken by somebody's
// outgoing connection before it starts again.
const firstPort, lastPort = 20000, 31999

var taken = struct {
	sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// freePort returns a loopback port that nobody listens on, and that this
// program did not get before. Another program may still take it: be ready to
// try again.
func freePort() (int, error) {
	taken.Lock()
	defer taken.Unlock()
	var errs []error
	for range 100 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if taken.ports[port] {
			continue
		}
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := l.Close(); err != nil {
			return 0, err
		}
		taken.ports[port] = true
		return port, nil
	}
	return 0, fmt.Errorf("no free port from %d to %d: %w", firstPort, lastPort, errors.Join(errs...))
}

func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	return ports, nil
}
