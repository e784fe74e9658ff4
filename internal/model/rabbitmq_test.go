package model

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/adapters/amqp"
	"github.com/motifmq/motif/adapters/amqp/amqptest"
)

// onRabbitMQ is the world of a virtual host of RabbitMQ.
type onRabbitMQ struct {
	node      *amqptest.Node
	vhost     *amqptest.VHost
	config    amqp.Config
	clients   map[string]*amqp.Driver
	restarter func(context.Context) error // restarts the node, for all who wish for it
	log       bytes.Buffer                // what the clients had to say; complete after close
}

// newOnRabbitMQ makes a world whose durable queues are of a type, as far as
// RabbitMQ has everything for it: the driver's default says how far that is for quorum.
func newOnRabbitMQ(n *amqptest.Node, v *amqptest.VHost, queues string, restarter func(context.Context) error) (*onRabbitMQ, error) {
	config, err := amqp.ParseURL(v.URL)
	if err != nil {
		return nil, err
	}
	if queues == "classic" {
		config.QueueType = amqp.Classic
	}
	config.BackoffMin, config.BackoffMax = 10*time.Millisecond, 200*time.Millisecond
	w := &onRabbitMQ{node: n, vhost: v, config: config, restarter: restarter, clients: make(map[string]*amqp.Driver)}
	logger := slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.config.Logger = logger
	w.config.OnEvent = func(e amqp.Event) {
		logger.Debug("event", "kind", e.Kind, "role", e.Role, "generation", e.Generation, "queue", e.Queue, "error", e.Err)
	}
	return w, nil
}

func (w *onRabbitMQ) client(name string) (adapters.Driver, error) {
	if d := w.clients[name]; d != nil {
		return d, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	config := w.config
	config.Name = name
	d, err := amqp.Connect(ctx, config)
	if err != nil {
		return nil, err
	}
	w.clients[name] = d
	return d, nil
}

func (w *onRabbitMQ) briefly(ctx context.Context, f func(*amqp.Driver) error) error {
	d, err := amqp.Connect(ctx, w.config)
	if err != nil {
		return err
	}
	defer d.Close(ctx)
	return f(d)
}

func (w *onRabbitMQ) declare(ctx context.Context, s adapters.Source) error {
	return w.briefly(ctx, func(d *amqp.Driver) error { return d.Declare(ctx, s) })
}

func (w *onRabbitMQ) unbind(ctx context.Context, s adapters.Source) error {
	return w.briefly(ctx, func(d *amqp.Driver) error { return d.Unbind(ctx, s) })
}

func (w *onRabbitMQ) purge(ctx context.Context, queue string) (int, error) {
	var purged []int
	err := w.node.Eval(ctx, &purged, `
		case rabbit_amqqueue:lookup(rabbit_misc:r(%s, queue, %s)) of
			{error, not_found} -> [];
			{ok, Q} -> {ok, N} = rabbit_amqqueue:purge(Q), [N]
		end`, erlang(w.vhost.Name), erlang(queue))
	if err == nil && len(purged) == 0 {
		return 0, adapters.ErrNotFound
	}
	if err != nil {
		return 0, err
	}
	return purged[0], nil
}

func (w *onRabbitMQ) deleteQueue(ctx context.Context, queue string) error {
	err := w.vhost.DeleteQueue(ctx, queue)
	if err != nil && strings.Contains(err.Error(), amqptest.ErrNoQueue.Error()) {
		return adapters.ErrNotFound
	}
	return err
}

func (w *onRabbitMQ) cut(ctx context.Context, client string) error {
	if w.clients[client] == nil {
		return nil
	}
	return w.reconnect(ctx, func() error {
		links := w.clients[client].Health().Connections // the one that publishes, and another if it consumes
		for i := min(2, len(links)) - 1; i >= 0; i-- {
			role := []string{"publish", "consume"}[i]
			for closed := 0; closed == 0; { // the broker may not list one that it has just let in
				var err error
				if closed, err = w.vhost.CloseConnectionsOf(ctx, client+" "+role); err != nil {
					return err
				}
				if !links[i].Up { // nor has it one to list
					break
				}
			}
		}
		return nil
	}, client)
}

func (w *onRabbitMQ) restart(context.Context) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute) // others take part in it
	defer cancel()
	if err := w.reconnect(ctx, func() error { return w.restarter(ctx) }, "a", "b"); err != nil {
		return err
	}
	// 3.10 drops a dead letter for a queue that has no leader yet, and may take long to send
	// it again.
	return w.node.Eval(ctx, nil, led+"ok", erlang(w.vhost.Name))
}

// led waits until the quorum queues of a virtual host have leaders, five seconds for each at most.
const led = `
	[(catch ra:members(amqqueue:get_pid(Q))) || Q <- rabbit_amqqueue:list(%[1]s), amqqueue:get_type(Q) =:= rabbit_quorum_queue],`

// reconnect waits until clients are connected again, after a fault that has cost
// them all their connections.
func (w *onRabbitMQ) reconnect(ctx context.Context, fault func() error, clients ...string) error {
	sessions := make(map[string][]uint64)
	for _, name := range clients {
		if d := w.clients[name]; d != nil {
			for _, l := range d.Health().Connections {
				sessions[name] = append(sessions[name], l.Generation)
			}
		}
	}
	if err := fault(); err != nil {
		return err
	}
	for name, before := range sessions {
		for i, generation := range before {
			for {
				if l := w.clients[name].Health().Connections[i]; l.Up && l.Generation > generation {
					break
				}
				if ctx.Err() != nil {
					return fmt.Errorf("client %s does not connect again: %w", name, ctx.Err())
				}
				time.Sleep(2 * time.Millisecond)
			}
		}
	}
	return nil
}

// pass lets a time go by that RabbitMQ measures with the same clock, if not to
// the millisecond.
func (w *onRabbitMQ) pass(d time.Duration) { time.Sleep(d + 20*time.Millisecond) }

// inspect waits, in the node, until the queues of a virtual host are as wanted,
// and returns them as they are at last. What it asks is what is so at the
// moment, also for quorum queues: they are asked again until all answers are of
// one state, by its place in the queue's log. The queues in which delayed messages
// wait are there only as long as one waits.
const inspect = `
	VHost = %s, Want = %s, Until = erlang:monotonic_time(millisecond) + %d,
	Ours = fun(Tag) -> case Tag of <<"motif-", _/binary>> -> true; _ -> false end end,
	Waits = fun(Name) -> case Name of <<"motif.delay.", _/binary>> -> true; _ -> false end end,
	Ask = fun Ask(Leader, Queries) ->
		Answers = [begin {ok, {At, A}, _} = ra:local_query(Leader, {rabbit_fifo, Query, []}), {At, A} end || Query <- Queries],
		case lists:usort([At || {At, _} <- Answers]) of
			[_] -> [A || {_, A} <- Answers];
			_ -> Ask(Leader, Queries)
		end
	end,
	Count = fun(Q) ->
		{resource, _, _, Name} = amqqueue:get_name(Q),
		try
			case amqqueue:get_type(Q) of
				rabbit_quorum_queue ->
					[R, U, C, {Dying, _}] = Ask(amqqueue:get_pid(Q), [query_messages_ready, query_messages_checked_out, query_consumers, query_stat_dlx]),
					[{Name, [R, U + case Waits(Name) of true -> Dying; false -> 0 end, length([T || {_, T, _, _, _, _, _, _} <- maps:values(C), Ours(T)])]}];
				_ ->
					[{_, R}, {_, U}, {_, C}] = rabbit_amqqueue:info(Q, [messages_ready, messages_unacknowledged, consumers]),
					[{Name, [R, U, C]}]
			end
		catch _:_ -> [{Name, [-1, -1, -1]}] end
	end,
	Look = fun Look(Pause) ->
		Got = maps:from_list([NC || Q <- rabbit_amqqueue:list(VHost), {Name, C} = NC <- Count(Q), not Waits(Name) orelse C =/= [0, 0, 0]]),
		case Got =:= Want orelse erlang:monotonic_time(millisecond) > Until of
			true -> Got;
			false -> timer:sleep(Pause), Look(min(20, Pause + 1))
		end
	end,
	Look(1)`

func (w *onRabbitMQ) counts(ctx context.Context, labels func() map[string]string, want map[string]counts) (map[string]counts, error) {
	for until, _ := ctx.Deadline(); ; {
		names := labels()
		var wanted []string
		for name, label := range names {
			if c, ok := want[label]; ok {
				wanted = append(wanted, fmt.Sprintf("%s => [%d, %d, %d]", erlang(name), c.Ready, c.Unacked, c.Consumers))
			}
		}
		// Private queues have other names after a cut: ask for these, too.
		var found map[string][3]int
		err := w.node.Eval(context.WithoutCancel(ctx), &found, inspect, erlang(w.vhost.Name), "#{"+strings.Join(wanted, ", ")+"}", max(0, min(200, time.Until(until).Milliseconds())))
		if err != nil {
			return nil, err
		}
		got, same := make(map[string]counts), len(found) == len(want)
		for name, n := range found {
			label, known := names[name]
			if !known {
				label = "unknown " + name
			}
			got[label] = counts{n[0], n[1], n[2]}
			wanted, ok := want[label]
			same = same && ok && got[label] == wanted
		}
		if same || time.Now().After(until) {
			return got, nil
		}
	}
}

// close disconnects the clients, and leaves the virtual host as it was made.
func (w *onRabbitMQ) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, d := range w.clients {
		_ = d.Close(ctx)
	}
	// What a client had still sent is done when the broker has forgotten it: it may be a queue.
	for {
		connections, err := w.vhost.Connections(ctx)
		if err != nil {
			return err
		}
		if len(connections) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	// A queue may be about to go by itself: that is the exit. One that a restarted node does not
	// lead yet must not go: on 3.10 its worker for dead letters then ends, and all others with
	// it, and until the next restart no quorum queue that has dead letters gets a leader again.
	return w.node.Eval(ctx, nil, led+`
		[(catch sys:get_state(Worker)) || {_, Worker, _, _} <- supervisor:which_children(rabbit_fifo_dlx_sup)],
		[try rabbit_amqqueue:delete(Q, false, false, <<"test">>) catch exit:{normal, _} -> ok end || Q <- rabbit_amqqueue:list(%[1]s)],
		[rabbit_exchange:delete(N, false, <<"test">>) || X <- rabbit_exchange:list(%[1]s),
			case N = element(2, X) of
				{resource, _, _, <<>>} -> false;
				{resource, _, _, <<"amq.", _/binary>>} -> false;
				{resource, _, _, <<"motif.delay.", _/binary>>} -> false;
				_ -> true
			end],
		ok`, erlang(w.vhost.Name))
}

// erlang writes s as an Erlang binary, whatever is in it.
func erlang(s string) string {
	var codes []string
	for i := range len(s) {
		codes = append(codes, strconv.Itoa(int(s[i])))
	}
	return "<<" + strings.Join(codes, ",") + ">>"
}
