%% What a node runs once RabbitMQ has started: a server on loopback that
%% evaluates Erlang and answers "+" with the value as JSON, or "-" with why
%% not. Compared with rabbitmqctl it needs no second virtual machine, which
%% takes seconds to start; compared with the management plugin it costs the
%% node nothing and knows what is so now, not what was at the last collection.
ok = rabbit:await_startup(),
File = os:getenv("MOTIF_CONTROL_FILE"),
Token = list_to_binary(os:getenv("MOTIF_CONTROL_TOKEN")),
Answer = fun(Code) ->
    try
        {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list(Code)),
        {ok, Expressions} = erl_parse:parse_exprs(Tokens),
        {value, Value, _} = erl_eval:exprs(Expressions, []),
        [$+, rabbit_json:encode(Value)]
    catch Class:Reason ->
        [$-, unicode:characters_to_binary(io_lib:format("~p: ~0tp", [Class, Reason]))]
    end
end,
Serve = fun Serve(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    spawn(fun() -> Serve(Listener) end),
    case gen_tcp:recv(Socket, byte_size(Token)) of
        {ok, Token} ->
            ok = inet:setopts(Socket, [{packet, 4}]),
            {ok, Code} = gen_tcp:recv(Socket, 0),
            gen_tcp:send(Socket, Answer(Code));
        _ ->
            stranger
    end,
    gen_tcp:close(Socket)
end,
spawn(fun() ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127,0,0,1}}, {active, false}]),
    {ok, Port} = inet:port(Listener),
    ok = file:write_file(File ++ ".new", integer_to_list(Port)),
    ok = file:rename(File ++ ".new", File),
    spawn(fun() -> Serve(Listener) end),
    receive after infinity -> ok end
end).
