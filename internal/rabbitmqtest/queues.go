package rabbitmqtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
)

// ErrNoQueue is in the error of what is asked of a queue that there is not.
var ErrNoQueue = errors.New("no such queue")

// A Queue is what the broker knows about a queue at this moment.
type Queue struct {
	Name      string `json:"name"`
	Ready     int    `json:"messages_ready"`
	Unacked   int    `json:"messages_unacknowledged"`
	Consumers int    `json:"consumers"`
	Durable   bool   `json:"durable"`
	Node      string `json:"node"` // where it is; for a quorum queue, its leader
}

const queueInfo = `maps:from_list([
	{name, element(4, amqqueue:get_name(Q))},
	{node, case amqqueue:get_pid(Q) of
		Pid when is_pid(Pid) -> node(Pid);
		_ -> proplists:get_value(leader, rabbit_amqqueue:info(Q, [leader]))
	end}
	| rabbit_amqqueue:info(Q, [messages_ready, messages_unacknowledged, consumers, durable])])`

// Queues lists the virtual host's queues.
func (v *VHost) Queues(ctx context.Context) ([]Queue, error) {
	var list []Queue
	err := v.node.Eval(ctx, &list, `[`+queueInfo+` || Q <- rabbit_amqqueue:list(%s)]`, bin(v.Name))
	return list, err
}

// Queue asks for one queue. For quorum queues the counts may be some moments
// old.
func (v *VHost) Queue(ctx context.Context, name string) (Queue, error) {
	var q Queue
	err := v.withQueue(ctx, &q, name, queueInfo)
	return q, err
}

// DeleteQueue deletes a queue with all its messages, whoever uses it.
func (v *VHost) DeleteQueue(ctx context.Context, name string) error {
	return v.withQueue(ctx, nil, name, `{ok, _} = rabbit_amqqueue:delete(Q, false, false, <<"test">>), ok`)
}

// withQueue evaluates code for which the queue is Q.
func (v *VHost) withQueue(ctx context.Context, result any, name, code string) error {
	var answer []json.RawMessage
	err := v.node.Eval(ctx, &answer, `
		case rabbit_amqqueue:lookup(rabbit_misc:r(%s, queue, %s)) of
			{error, not_found} -> [];
			{ok, Q} -> [begin `+code+` end]
		end`, bin(v.Name), bin(name))
	if err != nil {
		return err
	}
	if len(answer) == 0 {
		return fmt.Errorf("%w: %q in virtual host %q", ErrNoQueue, name, v.Name)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(answer[0], result)
}
