package trial

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// FreePort returns a port of 127.0.0.1 for a broker, that nobody listens on and that this program
// did not get before. It is below those that systems give to clients, one of which could come
// before a broker that is started again. Another program may still take it.
func FreePort() (int, error) {
	given.Lock()
	defer given.Unlock()
	var err error
	for range 100 {
		port := 10_000 + rand.IntN(10_000)
		if given.ports[port] {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprint("127.0.0.1:", port)); err == nil { //nolint:noctx // on loopback, at once
			given.ports[port] = true
			return port, l.Close()
		}
	}
	return 0, errors.Join(errors.New("no free port"), err)
}

var given = struct {
	sync.Mutex
	ports map[int]bool
}{ports: make(map[int]bool)}
