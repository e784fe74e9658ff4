package amqptest

import "context"

// A Connection is one that the virtual host's node has.
type Connection struct {
	Name string `json:"name"` // the broker's: the two addresses
	User string `json:"user"`

	// ClientName is what the client calls itself (client property
	// connection_name), or "".
	ClientName string `json:"client_name"`
	Channels   int    `json:"channels"`
}

// ofVHost binds Pids to the connections of a virtual host, and Named to a
// function that gives the client's name of one. A connection that ends while
// it is asked is none.
const ofVHost = `
	Info = fun(Pid, Items) -> try rabbit_networking:connection_info(Pid, Items) catch _:_ -> [] end end,
	Pids = [Pid || Pid <- rabbit_networking:connections(), Info(Pid, [vhost]) =:= [{vhost, %s}]],
	Named = fun(Pid) ->
		case lists:keyfind(<<"connection_name">>, 1, proplists:get_value(client_properties, Info(Pid, [client_properties]), [])) of
			{_, _, Name} -> Name;
			false -> <<>>
		end
	end,`

// Connections lists the virtual host's connections, on all nodes of a cluster.
func (v *VHost) Connections(ctx context.Context) ([]Connection, error) {
	var list []Connection
	err := v.node.Eval(ctx, &list, ofVHost+`
		[maps:put(client_name, Named(Pid), maps:from_list(I)) || Pid <- Pids, (I = Info(Pid, [name, user, channels])) =/= []]`,
		bin(v.Name))
	return list, err
}

// Channels returns how many channels the virtual host has on all nodes of a cluster, those of
// connections that have just ended among them.
func (v *VHost) Channels(ctx context.Context) (int, error) {
	var count int
	err := v.node.Eval(ctx, &count, `
		VHostOf = fun(Pid) -> try rabbit_channel:info(Pid, [vhost]) catch _:_ -> [] end end,
		length([Pid || Pid <- rabbit_channel:list(), VHostOf(Pid) =:= [{vhost, %s}]])`, bin(v.Name))
	return count, err
}

// CloseConnections closes all connections of the virtual host, as an operator
// does (320, CONNECTION_FORCED), and returns how many there were.
func (v *VHost) CloseConnections(ctx context.Context) (int, error) {
	return v.closeConnections(ctx, "true")
}

// CloseConnectionsOf closes those of clients that call themselves clientName.
func (v *VHost) CloseConnectionsOf(ctx context.Context, clientName string) (int, error) {
	return v.closeConnections(ctx, "Named(Pid) =:= "+bin(clientName))
}

func (v *VHost) closeConnections(ctx context.Context, which string) (int, error) {
	var count int
	err := v.node.Eval(ctx, &count, ofVHost+`
		Close = fun(Pid) -> try rabbit_networking:close_connection(Pid, <<"closed by a test">>) =:= ok catch exit:_ -> false end end,
		length([Pid || Pid <- Pids, %s, Close(Pid)])`,
		bin(v.Name), which)
	return count, err
}
