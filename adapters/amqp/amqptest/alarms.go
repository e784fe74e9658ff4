package amqptest

import "context"

// diskFreeLimit, in bytes, is low enough for any machine that runs tests.
const diskFreeLimit = 1_000_000

// MemoryAlarm makes the node believe that it is out of memory: whoever
// publishes is blocked, on all nodes of a cluster.
func (n *Node) MemoryAlarm(ctx context.Context) error {
	return n.Eval(ctx, nil, `vm_memory_monitor:set_vm_memory_high_watermark(0.00001)`)
}

// DiskAlarm makes the node believe that its disk is full, to the same effect.
func (n *Node) DiskAlarm(ctx context.Context) error {
	return n.Eval(ctx, nil, `rabbit_disk_monitor:set_disk_free_limit(1000000000000000)`)
}

// ClearAlarms ends them.
func (n *Node) ClearAlarms(ctx context.Context) error {
	return n.Eval(ctx, nil, `
		vm_memory_monitor:set_vm_memory_high_watermark(0.4),
		rabbit_disk_monitor:set_disk_free_limit(%d)`, diskFreeLimit)
}

// Alarms lists the resources that have run out, in the whole cluster: "memory",
// "disk".
func (n *Node) Alarms(ctx context.Context) ([]string, error) {
	var list []string
	err := n.Eval(ctx, &list, `lists:usort([Resource || {{resource_limit, Resource, _}, _} <- rabbit_alarm:get_alarms()])`)
	return list, err
}
