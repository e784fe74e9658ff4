package amqptest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/motifmq/motif/internal/leaktest"
)

// urlVar has the address of a broker for the tests that need no control of it.
const urlVar = "AMQP_URL"

// policyVar says what a missing broker is: a reason to skip if it is "skip", else a failure.
const policyVar = "MOTIF_BROKER"

// URL returns the address of a broker that has all rights and may have other
// users: that of AMQP_URL, or else a virtual host of the test's own.
func URL(t testing.TB) string {
	t.Helper()
	if u := os.Getenv(urlVar); u != "" {
		return u
	}
	return Shared(t).URL
}

// Shared returns a virtual host of the test's own, on a node that all tests of
// this program share. It is deleted when the test ends.
func Shared(t testing.TB) *VHost {
	t.Helper()
	n, err := sharedNode()
	orSkip(t, err)
	v, err := n.AddVHost(t.Context(), fmt.Sprintf("%s-%d", t.Name(), vhosts.Add(1)))
	orSkip(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what the shared node complains of:\n%s", n.complaints(100))
		}
		if err := v.Delete(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return v
}

var vhosts atomic.Int64

// shared is the node that the program's tests share, once one has asked for it.
var shared struct {
	sync.Mutex
	node *Node
	err  error // why it did not start, which is so for the next test, too
}

func sharedNode() (*Node, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.node == nil && shared.err == nil {
		shared.node, shared.err = Start(context.Background(), Options{})
	}
	return shared.node, shared.err
}

func closeShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.node == nil {
		return nil
	}
	err := shared.node.Close()
	shared.node = nil
	return err
}

// Private starts a node of the test's own. It is removed when the test ends;
// if that has failed, after the last lines of the node's log.
func Private(t testing.TB, o Options) *Node {
	t.Helper()
	n, err := Start(t.Context(), o)
	orSkip(t, err)
	closeAfter(t, n)
	return n
}

// Cluster starts count nodes of the test's own that form a cluster, as Private
// does.
func Cluster(t testing.TB, o Options, count int) []*Node {
	t.Helper()
	nodes := Lasting(t, o, count)
	closeAfter(t, nodes...)
	return nodes
}

// ProxyTo starts a proxy to the broker of an AMQP URL, until the test's end.
// Its own is p.URL(amqpURL).
func ProxyTo(t testing.TB, amqpURL string) *Proxy {
	t.Helper()
	p, err := NewProxy(amqpURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Lasting starts a cluster that outlives the test: its owner closes it.
func Lasting(t testing.TB, o Options, count int) []*Node {
	t.Helper()
	nodes, err := StartCluster(t.Context(), o, count)
	orSkip(t, err)
	return nodes
}

func closeAfter(t testing.TB, nodes ...*Node) {
	t.Cleanup(func() {
		for _, n := range nodes {
			if t.Failed() {
				t.Logf("log of %s:\n%s", n.Name, n.Log(20))
			}
		}
		if err := nodes[0].Close(); err != nil {
			t.Error(err)
		}
	})
}

// orSkip ends the test if err is not nil.
func orSkip(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, ErrMissing) && os.Getenv(policyVar) == "skip" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Parallel lets count tests of a program run at a time, unless -parallel says how many: tests that
// wait for a broker leave the CPU to others. It is for TestMain, before [Main].
func Parallel(count int) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", strconv.Itoa(max(count, runtime.GOMAXPROCS(0))))
	}
}

// Main runs a program's tests, closes the shared node, and fails if goroutines are left, save those
// with an ignored function, as [leaktest.Main] does. It is for TestMain, and does not return.
// Without it all is cleaned up as well, if some moments later.
func Main(m *testing.M, ignored ...string) {
	code := m.Run()
	if err := closeShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	if code == 0 {
		if err := leaktest.Find(ignored...); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
