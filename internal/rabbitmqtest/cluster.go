package rabbitmqtest

import (
	"context"
	"fmt"
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
