#!/usr/bin/env escript
%% -*- erlang -*-
%% The real Erlang supervisor, driven by a text trace.
%%
%% regrow says that its supervision core follows OTP. This script is what makes that checkable: it reads
%% traces on stdin, lets the supervisor of the *installed* Erlang play them, and prints what that supervisor
%% did, in the order in which it did it. `examples/otp_trace.rs` prints the same lines for regrow's core; the
%% test compares the two texts byte for byte.
%%
%% No OTP code is kept here. At start the source of the installed `supervisor` module is parsed, four places
%% of it are rewritten (see `rules/0`), and the result is loaded under another name. If one of the four is not
%% found, this OTP is one nobody has looked at, and the script ends with an error instead of guessing.
%% Needs Debian's erlang-base and erlang-src.
%%
%% The only real time is that between `signal X shutdown` and `signal X kill` of a child that ignores the
%% first (`onstop X ignore`): give such a child a shutdown of some 20 ms, and all others 1000 or more.
%%
%% Input: one command a line; `#` starts a comment; empty lines count for nothing.
%%
%%   sup STRATEGY INTENSITY PERIOD [AUTO]          a new case: forgets everything. PERIOD in seconds
%%   child ID RESTART SHUTDOWN TYPE [significant]  declares a child of the next boot (the template, under
%%                                                 simple_one_for_one)
%%   script ID OUTCOME,..                          what the next starts of ID do: ok ignore error crash
%%                                                 already; ok when the list is used up
%%   onstop ID comply|ignore|exit:REASON           how ID answers when it is asked to end
%%   boot                                          starts the supervisor
%%   at SECONDS                                    sets the clock; fractions are cut off, as OTP does
%%   exit ID REASON                                ID ends: normal shutdown shutdown_term crash kill
%%   exits ID:REASON ..                            several end before the supervisor sees the first
%%   retry                                         the oldest parked restart is tried
%%   call start ID RESTART SHUTDOWN TYPE [significant] | call start ID
%%   call terminate|restart|delete|spec ID | call which | call count
%%   check ID RESTART SHUTDOWN TYPE SIGNIFICANT AUTO     check_childspecs/2
%%   stop                                          the parent ends the supervisor
%%
%%   STRATEGY one_for_one one_for_all rest_for_one simple_one_for_one; AUTO never any_significant
%%   all_significant; RESTART permanent transient temporary; SHUTDOWN ms brutal_kill infinity;
%%   TYPE worker supervisor; ID [a-z][a-z0-9_]*
%%
%% Output: every command is echoed behind `> `, and followed by what it caused:
%%
%%   start ID#GENERATION OUTCOME    signal ID#GENERATION shutdown|kill    park ID
%%   report CONTEXT ID[#GENERATION] REASON     reply TERM     boot ok     boot_error TERM
%%   sup_exit REASON     nothing_parked     invalid     state ID#GENERATION=up ID=down ID=restarting
%%
%% `invalid`, alone, is the answer to a command or number of words nobody knows, to `exit` or `exits` of a
%% child that is not up (or named twice), and to exit, exits, retry, call and stop while no supervisor runs.
%% `state` follows boot, exit, exits, retry and every call that returns, but not count and spec, as long as
%% the supervisor lives.
-module(driver).
-mode(compile).
-export([main/1]).
-export([init/1, spawn_child/1, now_seconds/0, signalled/2, put_aside/1, log/2]).

-define(SUT, supervisor_under_test).

%% What one case knows. Everything that code inside the supervisor's process must reach is in the ets
%% table `world` instead: {clock}, {starts, Id}, {script, Id}, {onstop, Id}, {newest, Id}, {face, Pid}.
-record(case_, {sup = none, flags = #{}, children = []}).

main(_) ->
    process_flag(trap_exit, true),
    ok = logger:remove_handler(default),
    ok = logger:add_handler(reports, ?MODULE, #{level => error}),
    [ets:new(T, [named_table, public, ordered_set]) || T <- [world, said, aside]],
    persistent_term:put(said_count, atomics:new(1, [])),
    load_supervisor(),
    ok = io:setopts(standard_io, [binary, {encoding, latin1}]),
    play(commands(read_all([])), forget(#case_{}), []),
    halt(0, [{flush, true}]).

read_all(Chunks) ->
    case file:read(standard_io, 1 bsl 16) of
        {ok, Chunk} -> read_all([Chunk | Chunks]);
        eof -> unicode:characters_to_list(iolist_to_binary(lists:reverse(Chunks)), latin1)
    end.

commands(Text) ->
    Words = fun(Line) -> string:lexemes(lists:takewhile(fun(C) -> C =/= $# end, Line), " \t\r") end,
    [Command || Line <- string:split(Text, "\n", all), (Command = Words(Line)) =/= []].

%% Plays the commands one by one, and writes in blocks.
play([], _, Out) -> write(Out);
play(Commands, Case, Out) when length(Out) >= 400 -> write(Out), play(Commands, Case, []);
play([Words | Rest], Case, Out) ->
    Next = case allowed(Words, Case) of
               true -> try obey(Words, Case) catch error:_ -> refuse(Words, Case) end;
               false -> refuse(Words, Case)
           end,
    After = mourn(Next),
    play(Rest, After, [[["> ", lists:join($\s, Words), $\n], everything_said()] | Out]).

write(Out) -> ok = file:write(standard_io, lists:reverse(Out)).

refuse(Words, Case) ->
    Next = case Words of ["sup" | _] -> forget(Case); _ -> Case end,
    ets:delete_all_objects(said),
    say("invalid", []),
    Next.

%%% What may be asked -----------------------------------------------------------------------------

allowed(["exit", Id, _], Case) -> runs(Case) andalso lives(Id);
allowed(["exits" | Pairs], Case) when Pairs =/= [] ->
    Ids = [Id || Pair <- Pairs, [Id, _] <- [string:split(Pair, ":")]],
    runs(Case) andalso length(Ids) =:= length(Pairs) andalso lists:usort(Ids) =:= lists:sort(Ids)
        andalso lists:all(fun lives/1, Ids);
allowed([Verb | _], Case) when Verb =:= "exit"; Verb =:= "exits"; Verb =:= "retry"; Verb =:= "call"; Verb =:= "stop" ->
    runs(Case);
allowed(_, _) -> true.

runs(#case_{sup = none}) -> false;
runs(#case_{sup = Sup}) -> is_process_alive(Sup).

lives(Id) ->
    case newest(Id) of undefined -> false; Pid -> is_process_alive(Pid) end.

%%% Commands: each takes the case and gives the next one -------------------------------------------

obey(["sup", Strategy, Intensity, Period], Case) -> obey(["sup", Strategy, Intensity, Period, "never"], Case);
obey(["sup", Strategy, Intensity, Period, Auto], Case) ->
    (forget(Case))#case_{flags = #{strategy => atom(Strategy), intensity => list_to_integer(Intensity),
                                   period => list_to_integer(Period), auto_shutdown => atom(Auto)}};
obey(["child" | Words], Case) ->
    Case#case_{children = Case#case_.children ++ [child_spec(Words, Case)]};
obey(["script", Id, Outcomes], Case) ->
    ets:insert(world, {{script, Id}, [atom(O) || O <- string:lexemes(Outcomes, ",")]}), Case;
obey(["onstop", Id, Answer], Case) ->
    ets:insert(world, {{onstop, Id}, case Answer of
                                         "exit:" ++ Reason -> {exit, reason(Reason)};
                                         "ignore" -> ignore;
                                         _ -> comply
                                     end}), Case;
obey(["at", Seconds], Case) ->
    ets:insert(world, {clock, list_to_integer(hd(string:split(Seconds, ".")))}), Case;
obey(["boot"], #case_{flags = Flags, children = Children} = Case) ->
    case gen_server:start_link(?SUT, {self, ?MODULE, {Flags, Children}}, []) of
        {ok, Sup} -> say("boot ok", []), look(Case#case_{sup = Sup});
        {error, Why} -> say("boot_error ~0p", [plain(Why)]), Case
    end;
obey(["exit", Id, Reason], Case) -> end_child(Id, Reason, Case), look(Case);
obey(["exits" | Pairs], #case_{sup = Sup} = Case) ->
    ok = sys:suspend(Sup),
    [end_child(Id, Reason, Case) || [Id, Reason] <- [string:split(P, ":") || P <- Pairs]],
    ok = sys:resume(Sup),
    look(Case);
obey(["retry"], #case_{sup = Sup} = Case) ->
    case ets:first(aside) of
        '$end_of_table' -> say("nothing_parked", []), Case;
        Turn -> [{_, Id}] = ets:take(aside, Turn),
                gen_server:cast(Sup, {try_again_restart, Id}), look(Case)
    end;
obey(["call", "which"], Case) -> look(Case);
obey(["call", "count"], Case) -> say("reply ~0p", [ask(count_children, Case)]), Case;
obey(["call", "spec", Id], Case) -> tell_spec(ask({get_childspec, handle(Id, Case)}, Case)), Case;
obey(["call", "start", Id], Case) -> answer({start_child, [Id]}, Case);
obey(["call", "start" | Words], Case) -> answer({start_child, child_spec(Words, Case)}, Case);
obey(["call", "terminate", Id], Case) -> answer({terminate_child, handle(Id, Case)}, Case);
obey(["call", "restart", Id], Case) -> answer({restart_child, Id}, Case);
obey(["call", "delete", Id], Case) -> answer({delete_child, Id}, Case);
obey(["check", Id, Restart, Shutdown, Type, Significant, Auto], Case) ->
    Spec = (child_spec([Id, Restart, Shutdown, Type], Case))#{significant => atom(Significant)},
    say("reply ~0p", [?SUT:check_childspecs([Spec], atom(Auto))]), Case;
obey(["stop"], #case_{sup = Sup} = Case) ->
    exit(Sup, shutdown),
    Watch = monitor(process, Sup),
    receive {'DOWN', Watch, process, Sup, _} -> Case end.

answer(Question, Case) ->
    say("reply ~0p", [plain(ask(Question, Case))]), look(Case).

ask(Question, #case_{sup = Sup}) ->
    try gen_server:call(Sup, Question, infinity)
    catch exit:{Why, _} -> {call_exit, plain(Why)};
          exit:Why -> {call_exit, plain(Why)}
    end.

tell_spec({ok, Spec}) ->
    Shown = lists:sort(maps:to_list(maps:without([start, modules], Spec))),
    say("reply #{~s}", [lists:join(",", [io_lib:format("~0p => ~0p", [K, V]) || {K, V} <- Shown])]);
tell_spec(Other) -> say("reply ~0p", [Other]).

child_spec([Id, Restart, Shutdown, Type | Significant], Case) ->
    %% A template's children get their id as the argument of the call.
    Arguments = case simple(Case) of true -> []; false -> [Id] end,
    #{id => Id, start => {?MODULE, spawn_child, Arguments}, restart => atom(Restart), type => atom(Type),
      shutdown => try list_to_integer(Shutdown) catch error:_ -> atom(Shutdown) end,
      significant => Significant =/= []}.

simple(#case_{flags = Flags}) -> maps:get(strategy, Flags, one_for_one) =:= simple_one_for_one.

%% How the supervisor knows a child: children of a template have no id.
handle(Id, Case) -> case simple(Case) of true -> newest(Id); false -> Id end.

newest(Id) -> case ets:lookup(world, {newest, Id}) of [{_, Pid}] -> Pid; [] -> undefined end.

%%% Watching ----------------------------------------------------------------------------------------

%% Ends a child and returns once its exit is in the supervisor's mailbox: a received exit signal takes the
%% link away, so the link is what to look at.
end_child(Id, Reason, #case_{sup = Sup}) ->
    Pid = newest(Id),
    Watch = monitor(process, Pid),
    case Reason of
        "kill" -> exit(Pid, kill);
        _ -> Pid ! {end_yourself, reason(Reason)}
    end,
    receive {'DOWN', Watch, process, Pid, _} -> ok end,
    until_unlinked(Pid, Sup).

until_unlinked(Pid, Sup) ->
    case process_info(Sup, links) of
        {links, Links} -> lists:member(Pid, Links) andalso begin erlang:yield(), until_unlinked(Pid, Sup) end;
        undefined -> gone
    end.

%% Prints the state, if there is a supervisor left to ask; asking also waits for all it has to do.
look(Case) ->
    case ask(which_children, Case) of
        {call_exit, _} -> Case;
        Newest -> say("state ~s", [lists:join(" ", in_order(Newest, simple(Case)))]), Case
    end.

in_order(Children, false) -> lists:reverse([standing(Id, Pid) || {Id, Pid, _, _} <- Children]);
in_order(Children, true) ->
    Named = [{case is_pid(Pid) of true -> face(Pid); false -> atom_to_list(Pid) end, Pid} || {_, Pid, _, _} <- Children],
    [standing(Name, Pid) || {Name, Pid} <- lists:sort(Named)].

standing(_, Pid) when is_pid(Pid) -> [face(Pid), "=up"];
standing(Id, undefined) -> [Id, "=down"];
standing(Id, restarting) -> [Id, "=restarting"].

%% If the supervisor is gone, says why.
mourn(#case_{sup = none} = Case) -> Case;
mourn(#case_{sup = Sup} = Case) ->
    case is_process_alive(Sup) of
        true -> Case;
        false -> receive {'EXIT', Sup, Why} -> say("sup_exit ~0p", [plain(Why)]), Case#case_{sup = none} end
    end.

forget(#case_{sup = Sup}) ->
    is_pid(Sup) andalso begin unlink(Sup), finish(Sup) end,
    [finish(Pid) || {{face, Pid}, _} <- ets:tab2list(world), is_process_alive(Pid)],
    swallow(),
    [ets:delete_all_objects(T) || T <- [world, said, aside]],
    ets:insert(world, {clock, 0}),
    #case_{}.

finish(Pid) ->
    Watch = monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Watch, process, Pid, _} -> ok end.

swallow() -> receive {'EXIT', _, _} -> swallow() after 0 -> ok end.

%%% Terms as they are printed -----------------------------------------------------------------------

atom(Text) -> list_to_atom(Text).

reason("crash") -> crash;
reason("shutdown_term") -> {shutdown, term};
reason(Text) -> atom(Text).

%% Takes out what differs from run to run (pids, stacks) and what says nothing (child records).
plain({ok, Pid}) when is_pid(Pid) -> {ok, atom(face(Pid))};
plain({error, {already_started, _}}) -> {error, already_started};
plain({error, {Why, Child}}) when element(1, Child) =:= child -> {error, plain(Why)};
plain({error, Why}) -> {error, plain(Why)};
plain({'EXIT', Why}) -> {'EXIT', plain(Why)};
plain({shutdown, {failed_to_start_child, Id, Why}}) -> {shutdown, {failed_to_start_child, atom(Id), plain(Why)}};
plain({Why, Details}) when is_list(Details) -> plain(Why);
plain(Term) -> Term.

face(Pid) -> case ets:lookup(world, {face, Pid}) of [{_, Face}] -> Face; [] -> "?" end.

say(Format, Arguments) ->
    Turn = atomics:add_get(persistent_term:get(said_count), 1, 1),
    ets:insert(said, {Turn, [io_lib:format(Format, Arguments), $\n]}).

everything_said() ->
    Lines = [Line || {_, Line} <- ets:tab2list(said)],
    ets:delete_all_objects(said),
    Lines.

%%% Called from inside the supervisor's process ------------------------------------------------------

init({Flags, Children}) -> {ok, {Flags, Children}}.

%% The start function of every child.
spawn_child(Id) ->
    Face = Id ++ "#" ++ integer_to_list(ets:update_counter(world, {starts, Id}, 1, {{starts, Id}, 0})),
    Outcome = case ets:lookup(world, {script, Id}) of
                  [{_, [First | Later]}] -> ets:insert(world, {{script, Id}, Later}), First;
                  _ -> ok
              end,
    say("start ~s ~s", [Face, Outcome]),
    case Outcome of
        ok -> {ok, run_child(Id, Face)};
        ignore -> ignore;
        error -> {error, scripted};
        already -> {error, {already_started, whereis(init)}};
        crash -> exit(scripted)
    end.

run_child(Id, Face) ->
    Sup = self(),
    Acknowledged = make_ref(),
    Pid = spawn_link(fun() ->
                             process_flag(trap_exit, true),
                             Sup ! Acknowledged,
                             child(Id, Sup)
                     end),
    ets:insert(world, [{{face, Pid}, Face}, {{newest, Id}, Pid}]),
    receive Acknowledged -> Pid end.

child(Id, Sup) ->
    receive
        {end_yourself, Reason} -> exit(Reason);
        {'EXIT', Sup, Asked} ->
            case ets:lookup(world, {onstop, Id}) of
                [{_, ignore}] -> child(Id, Sup);
                [{_, {exit, Reason}}] -> exit(Reason);
                _ -> exit(Asked)
            end
    end.

now_seconds() -> ets:lookup_element(world, clock, 2).

signalled(Pid, Signal) -> say("signal ~s ~s", [face(Pid), Signal]), exit(Pid, Signal).

put_aside(Child) ->
    ets:insert(aside, {erlang:unique_integer([monotonic]), Child}),
    say("park ~s", [case Child of {restarting, Pid} -> face(Pid); Id -> Id end]),
    ok.

%% A logger handler runs in the process that logs, which keeps the order.
log(#{msg := {report, #{report := [_, {errorContext, Context}, {reason, Why}, {offender, Child}]}}}, _) ->
    Who = case lists:keyfind(pid, 1, Child) of
              {pid, Pid} when is_pid(Pid) -> face(Pid);
              _ -> {id, Id} = lists:keyfind(id, 1, Child), Id
          end,
    say("report ~s ~s ~0p", [Context, Who, plain(Why)]);
log(_, _) -> ok.

%%% The supervisor, as installed, with four places rewritten -------------------------------------------

load_supervisor() ->
    Directory = fun(Application, Sub) -> filename:join(code:lib_dir(Application), Sub) end,
    Include = [Directory(A, S) || A <- [kernel, stdlib], S <- ["include", "src"]],
    {ok, Source} = epp:parse_file(filename:join(Directory(stdlib, "src"), "supervisor.erl"), [{includes, Include}]),
    {Rewritten, Used} = rewrite(Source, []),
    case [Name || {Name, _} <- rules(), not lists:member(Name, Used)] of
        [] -> ok;
        Missing -> io:format(standard_error, "this OTP's supervisor.erl has no place for ~p~n", [Missing]), halt(2)
    end,
    {ok, ?SUT, Code} = compile:forms(Rewritten, [binary, nowarn_unused_function]),
    {module, ?SUT} = code:load_binary(?SUT, "supervisor.erl, rewritten", Code).

%% Each rule has a name and looks at one node of the syntax tree.
rules() ->
    [{name, fun({attribute, At, module, supervisor}) -> {attribute, At, module, ?SUT}; (_) -> no end},
     {clock, fun({call, At, {remote, _, {atom, _, erlang}, {atom, _, monotonic_time}}, [_]}) ->
                     hook(At, now_seconds, []);
                (_) -> no end},
     {signal, fun({call, At, {atom, _, exit}, [Pid, Signal]}) -> hook(At, signalled, [Pid, Signal]); (_) -> no end},
     {retry, fun({function, At, try_again_restart, 1, _}) ->
                     Child = {var, At, 'Child'},
                     {function, At, try_again_restart, 1,
                      [{clause, At, [Child], [], [hook(At, put_aside, [Child])]}]};
                (_) -> no end}].

hook(At, Function, Arguments) -> {call, At, {remote, At, {atom, At, ?MODULE}, {atom, At, Function}}, Arguments}.

rewrite(Node, Used) ->
    case [{Name, New} || {Name, Rule} <- rules(), (New = Rule(Node)) =/= no] of
        [{Name, New}] -> {New, [Name | Used]};
        [] when is_tuple(Node) -> {Parts, Now} = rewrite(tuple_to_list(Node), Used), {list_to_tuple(Parts), Now};
        [] when is_list(Node) -> lists:mapfoldl(fun rewrite/2, Used, Node);
        [] -> {Node, Used}
    end.
