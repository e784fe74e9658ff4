package amqptest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// StartCluster starts count nodes that form a cluster, and returns when each
// sees all. Closing one closes all.
func StartCluster(ctx context.Context, o Options, count int) ([]*Node, error) {
	return start(ctx, o, count)
}

// Members lists the nodes of its cluster that run, as far as this one knows.
func (n *Node) Members(ctx context.Context) ([]string, error) {
	var names []string
	err := n.Eval(ctx, &names, `try rabbit_nodes:list_running() catch error:undef -> rabbit_nodes:all_running() end`)
	return names, err
}

// awaitCluster waits until the nodes, all ready, have found each other.
func awaitCluster(ctx context.Context, nodes []*Node) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for _, n := range nodes {
		var members []string
		var failed error
		err := poll(ctx, n.process, func() bool {
			members, failed = n.Members(ctx)
			return failed != nil || len(members) == len(nodes)
		})
		if failed != nil {
			return failed
		}
		if err != nil {
			return fmt.Errorf("node %s is in a cluster with %v only: %w\n%s", n.Name, members, err, n.Log(40))
		}
	}
	return nil
}

// AwaitCluster waits until the nodes of a cluster all run and see each other, and each quorum queue
// has the replicas to lose one: the next node may be stopped then. It is what
// rabbitmq-upgrade await_online_quorum_plus_one waits for.
func AwaitCluster(ctx context.Context, nodes ...*Node) error {
	if err := awaitCluster(ctx, nodes); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for _, n := range nodes {
		var ready bool
		var failed error
		err := poll(ctx, n.process, func() bool {
			failed = n.Eval(ctx, &ready, "rabbit_upgrade_preparation:await_online_quorum_plus_one(1000)")
			return failed != nil || ready
		})
		if failed != nil {
			return failed
		}
		if err != nil {
			return fmt.Errorf("node %s has quorum queues that can lose no replica: %w", n.Name, err)
		}
	}
	return nil
}

// Isolate takes the node from its cluster: it and the others do not reach each other any more, and
// notice at once. Clients reach it as before.
//
// The others stand still meanwhile. RabbitMQ before Khepri calls it a partial partition if one of
// them has noticed and another still reaches the node, and then all may pause until it is back.
func (n *Node) Isolate(ctx context.Context) error {
	for _, other := range n.others() {
		err := other.Freeze()
		if errors.Is(err, errNotRunning) {
			continue
		}
		defer other.Thaw() //nolint:errcheck // it ran a moment ago
		if err != nil {
			return err
		}
	}
	return n.Eval(ctx, nil, `
		Others = [%s],
		[true = erlang:set_cookie(Other, 'not the cookie') || Other <- Others],
		[erlang:disconnect_node(Other) || Other <- Others],
		Closed = fun
			Closed(0) -> exit(still_connected);
			Closed(Tries) ->
				case [Other || {Other, _} <- erlang:system_info(dist_ctrl), lists:member(Other, Others)] of
					[] -> ok;
					_ -> timer:sleep(1), Closed(Tries - 1)
				end
		end,
		Closed(5000)`, atoms(n.others()))
}

// Rejoin ends what Isolate began. The nodes find each other by themselves.
func (n *Node) Rejoin(ctx context.Context) error {
	return n.Eval(ctx, nil, `[true = erlang:set_cookie(Other, erlang:get_cookie()) || Other <- [%s]]`, atoms(n.others()))
}

// others are the other nodes of the cluster.
func (n *Node) others() []*Node {
	return slices.DeleteFunc(slices.Clone(n.cluster), func(other *Node) bool { return other == n })
}

// atoms are the names of nodes, as Erlang has them in a list.
func atoms(nodes []*Node) string {
	var names []string
	for _, n := range nodes {
		names = append(names, "'"+n.Name+"'")
	}
	return strings.Join(names, ", ")
}
