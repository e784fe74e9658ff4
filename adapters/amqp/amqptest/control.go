package amqptest

import (
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

//go:embed control.erl
var controlProgram string

// controlPatience bounds a call whose ctx has no end: a frozen node never
// answers.
const controlPatience = 30 * time.Second

// control is the way into a running node, see control.erl.
type control struct {
	addr  string
	token string
}

// Eval evaluates Erlang expressions inside the node, and puts the value of the
// last one, as JSON, into result; nil if it is of no interest. An atom becomes
// a string, a map an object; a value that JSON has no form for is an error.
func (n *Node) Eval(ctx context.Context, result any, format string, args ...any) error {
	n.mu.Lock()
	c := n.control
	n.mu.Unlock()
	if c.addr == "" {
		return fmt.Errorf("node %s: %w", n.Name, errNotRunning)
	}
	answer, err := c.call(ctx, fmt.Sprintf(format, args...))
	if err == nil && result != nil {
		err = json.Unmarshal(answer, result)
	}
	if err != nil {
		return fmt.Errorf("node %s: %w", n.Name, err)
	}
	return nil
}

func (c control) call(ctx context.Context, code string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, controlPatience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // it only has been read from
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	code = strings.TrimRight(code, " \n.") + " ."
	request := append([]byte(c.token), binary.BigEndian.AppendUint32(nil, uint32(len(code)))...)
	if _, err = conn.Write(append(request, code...)); err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	var size uint32
	if err = binary.Read(conn, binary.BigEndian, &size); err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	answer := make([]byte, size)
	if _, err = io.ReadFull(conn, answer); err != nil {
		return nil, errors.Join(context.Cause(ctx), err)
	}
	if len(answer) == 0 || answer[0] != '+' {
		return nil, fmt.Errorf("%s in %s", strings.TrimPrefix(string(answer), "-"), code)
	}
	return answer[1:], nil
}

// bin writes s as an Erlang binary, whatever is in it.
func bin(s string) string {
	b := []byte("<<")
	for i := range len(s) {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(s[i]), 10)
	}
	return string(append(b, ">>"...))
}
