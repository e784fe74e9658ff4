package amqptest

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

// queueInfo asks the leader of a quorum queue itself: what such a queue tells
// about itself is up to 5 s old. The leader on record may be at a node that was killed, and stay
// there for as long as a test looks (4.3.6); then the member at this node knows better. (To let it
// tell more often is no way: RabbitMQ 3.10 makes it do so when it is not ready yet, and then it is
// broken for good.)
const queueInfo = `maps:from_list([
	{name, element(4, amqqueue:get_name(Q))},
	{durable, amqqueue:is_durable(Q)}
	| case amqqueue:get_pid(Q) of
		Pid when is_pid(Pid) ->
			[{node, node(Pid)} | rabbit_amqqueue:info(Q, [messages_ready, messages_unacknowledged, consumers])];
		Leader ->
			Ask = fun(What) ->
				Query = {rabbit_fifo, What, []},
				{ok, {_, Answer}, {_, Node}} = case ra:leader_query(Leader, Query) of
					{error, _} -> ra:leader_query({element(1, Leader), node()}, Query);
					Answered -> Answered
				end,
				{Node, Answer}
			end,
			{Node, Ready} = Ask(query_messages_ready),
			{_, Unacked} = Ask(query_messages_checked_out),
			{_, Consumers} = Ask(query_consumer_count),
			[{node, Node}, {messages_ready, Ready}, {messages_unacknowledged, Unacked}, {consumers, Consumers}]
	end])`

// forQueue binds Do to a function that evaluates code for which the queue of a
// name is Q, and returns what it gives in a list: an empty one if there is no
// such queue. The process of a queue is gone some moments before the queue is, or
// is not back yet after a fault, which is why a failure counts only when it lasts.
const forQueue = `
	Until = erlang:monotonic_time(millisecond) + 2000,
	Do = fun Do(Name) ->
		case rabbit_amqqueue:lookup(Name) of
			{error, not_found} -> [];
			{ok, Q} ->
				Tired = erlang:monotonic_time(millisecond) > Until,
				try [begin %s end] catch _:_ when not Tired -> timer:sleep(5), Do(Name) end
		end
	end,`

// Queues lists the virtual host's queues.
func (v *VHost) Queues(ctx context.Context) ([]Queue, error) {
	var list []Queue
	err := v.node.Eval(ctx, &list, forQueue+`[I || Q <- rabbit_amqqueue:list(%s), I <- Do(amqqueue:get_name(Q))]`,
		queueInfo, bin(v.Name))
	return list, err
}

// Queue asks for one queue.
func (v *VHost) Queue(ctx context.Context, name string) (Queue, error) {
	var q Queue
	err := v.withQueue(ctx, &q, name, queueInfo)
	return q, err
}

// DeleteQueue deletes a queue with all its messages, whoever uses it.
func (v *VHost) DeleteQueue(ctx context.Context, name string) error {
	return v.withQueue(ctx, nil, name, `{ok, _} = rabbit_amqqueue:delete(Q, false, false, <<"test">>), ok`)
}

// StopQueue ends the process of a quorum queue at this node, until StartQueue. The broker knows the
// queue then, but it does not work: as it is for a moment when it is new.
func (v *VHost) StopQueue(ctx context.Context, name string) error {
	return v.withQueue(ctx, nil, name, `ok = ra:stop_server(quorum_queues, {element(1, amqqueue:get_pid(Q)), node()})`)
}

// StartQueue undoes StopQueue.
func (v *VHost) StartQueue(ctx context.Context, name string) error {
	return v.withQueue(ctx, nil, name, `ok = ra:restart_server(quorum_queues, {element(1, amqqueue:get_pid(Q)), node()})`)
}

// MoveLeader makes the replica at another node the leader of a quorum queue, without a fault.
func (v *VHost) MoveLeader(ctx context.Context, name string, to *Node) error {
	return v.withQueue(ctx, nil, name, fmt.Sprintf(`
		{Id, _} = amqqueue:get_pid(Q),
		{ok, _, Leader} = ra:members({Id, node()}),
		ra:transfer_leadership(Leader, {Id, '%[1]s'}),
		{ok, _, {_, '%[1]s'}} = ra:members({Id, node()}),
		ok`, to.Name))
}

// withQueue evaluates code for which the queue is Q.
func (v *VHost) withQueue(ctx context.Context, result any, name, code string) error {
	var answer []json.RawMessage
	err := v.node.Eval(ctx, &answer, forQueue+`Do(rabbit_misc:r(%s, queue, %s))`, code, bin(v.Name), bin(name))
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
