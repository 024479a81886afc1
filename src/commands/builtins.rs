//! The rows of the commands that work on the connection, the clients or the server. What runs them is
//! in `engine`.

use super::{Command, Family, Flags, Keys, Run};
use Family::{Connection, PubSub, Server, Transactions};

/// Names what the engine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is explained by its row")]
pub enum Builtin {
    Auth,
    Bgrewriteaof,
    Bgsave,
    Echo,
    Hello,
    Ping,
    Psubscribe,
    Publish,
    PubsubChannels,
    PubsubHelp,
    PubsubNumpat,
    PubsubNumsub,
    Punsubscribe,
    Quit,
    Reset,
    Select,
    Discard,
    Exec,
    Multi,
    Unwatch,
    Watch,
    ClientGetname,
    ClientHelp,
    ClientId,
    ClientInfo,
    ClientKill,
    ClientList,
    ClientNoEvict,
    ClientNoTouch,
    ClientPause,
    ClientReply,
    ClientSetinfo,
    ClientSetname,
    ClientUnblock,
    ClientUnpause,
    CommandAll,
    CommandCount,
    CommandDocs,
    CommandGetkeys,
    CommandGetkeysandflags,
    CommandHelp,
    CommandInfo,
    CommandList,
    ConfigGet,
    ConfigHelp,
    ConfigResetstat,
    ConfigRewrite,
    ConfigSet,
    DebugHelp,
    DebugReload,
    DebugSetActiveExpire,
    DebugSleep,
    Help,
    Info,
    LatencyDoctor,
    LatencyHelp,
    LatencyHistogram,
    LatencyHistory,
    LatencyLatest,
    LatencyReset,
    Lastsave,
    Lolwut,
    Monitor,
    Save,
    Shutdown,
    SlowlogGet,
    SlowlogHelp,
    SlowlogLen,
    SlowlogReset,
    Subscribe,
    Time,
    Trace,
    TraceHelp,
    TraceList,
    TraceReset,
    TraceSample,
    Unsubscribe,
    Waitaof,
    Lastseq,
    Promote,
    Replicaof,
    Replicate,
    Role,
    Wait,
    Waitseq,
}

const FREE: Flags = Flags::NO_AUTH.and(FAST).and(Flags::CONNECTION);
const FAST: Flags = Flags::FAST.and(Flags::LOADING);
/// A confirmation is sent by itself, so it can be no element of the answer to EXEC.
const LISTEN: Flags = Flags::LOADING.and(Flags::NO_MULTI).and(Flags::CONNECTION);
const TRANSACTION: Flags = FAST.and(Flags::CONNECTION);
const ADMIN: Flags = Flags::ADMIN.and(Flags::LOADING);
const TAKES_OVER: Flags = ADMIN.and(Flags::NO_MULTI).and(Flags::CONNECTION);

/// The rows of these families.
pub const COMMANDS: &[Command] = &[
    row("auth", -2, FREE, Connection, Run::Engine(Builtin::Auth)).help(
        "[username] password",
        "Gives the password.",
        "CONFIG SET requirepass secret; AUTH secret -> OK",
    ),
    row("client", -2, FAST, Connection, Run::Container).help(
        "subcommand [argument ...]",
        "Looks at and changes connections.",
        "CLIENT ID -> (the number of this connection)",
    ),
    row("client|getname", 2, FAST, Connection, Run::Engine(Builtin::ClientGetname)).help(
        "",
        "The name given to this connection.",
        "",
    ),
    row("client|help", 2, FAST, Connection, Run::Engine(Builtin::ClientHelp)).help(
        "",
        "Lists the subcommands.",
        "",
    ),
    row("client|id", 2, FAST, Connection, Run::Engine(Builtin::ClientId)).help(
        "",
        "The number of this connection.",
        "",
    ),
    row("client|info", 2, FAST, Connection, Run::Engine(Builtin::ClientInfo)).help(
        "",
        "This connection's line of CLIENT LIST.",
        "",
    ),
    row("client|kill", -3, ADMIN, Connection, Run::Engine(Builtin::ClientKill)).help(
        "ip:port | [ID client-id] [TYPE NORMAL | MASTER | REPLICA | PUBSUB] [USER username] \
         [ADDR ip:port] [LADDR ip:port] [SKIPME yes/no]",
        "Ends connections.",
        "",
    ),
    row("client|list", -2, ADMIN, Connection, Run::Engine(Builtin::ClientList)).help(
        "[TYPE NORMAL | MASTER | REPLICA | PUBSUB] [ID client-id [client-id ...]]",
        "Lists the connections.",
        "",
    ),
    row("client|no-evict", 3, ADMIN, Connection, Run::Engine(Builtin::ClientNoEvict)).help(
        "ON | OFF",
        "Spares this connection when memory is short.",
        "",
    ),
    row("client|no-touch", 3, FAST, Connection, Run::Engine(Builtin::ClientNoTouch)).help(
        "ON | OFF",
        "Reads of this connection do not count as uses of a key.",
        "",
    ),
    row("client|pause", -3, ADMIN, Connection, Run::Engine(Builtin::ClientPause)).help(
        "milliseconds [WRITE | ALL]",
        "Makes commands of all connections wait.",
        "",
    ),
    row(
        "client|reply",
        3,
        FAST.and(Flags::CONNECTION),
        Connection,
        Run::Engine(Builtin::ClientReply),
    )
    .help("ON | OFF | SKIP", "Whether this connection is answered.", ""),
    row("client|setinfo", 4, FAST, Connection, Run::Engine(Builtin::ClientSetinfo)).help(
        "LIB-NAME name | LIB-VER version",
        "Tells which library this client uses.",
        "",
    ),
    row("client|setname", 3, FAST, Connection, Run::Engine(Builtin::ClientSetname)).help(
        "name",
        "Names this connection.",
        "",
    ),
    row("client|unblock", -3, ADMIN, Connection, Run::Engine(Builtin::ClientUnblock)).help(
        "client-id [TIMEOUT | ERROR]",
        "Wakes a connection that waits in a command.",
        "",
    ),
    row("client|unpause", 2, ADMIN, Connection, Run::Engine(Builtin::ClientUnpause)).help(
        "",
        "Ends CLIENT PAUSE.",
        "",
    ),
    row("echo", 2, FAST, Connection, Run::Engine(Builtin::Echo)).rest(1).help(
        "message",
        "Answers with the message.",
        "ECHO hello world -> hello world",
    ),
    row("hello", -1, FREE, Connection, Run::Engine(Builtin::Hello)).help(
        "[protover [AUTH username password] [SETNAME clientname]]",
        "Agrees on RESP2 or RESP3, for programs; answers are RESP from then on, until RESET.",
        "HELLO 3 -> (names and values that describe the server)",
    ),
    row("ping", -1, Flags::FAST, Connection, Run::Engine(Builtin::Ping)).rest(1).help(
        "[message]",
        "Answers, if the server is there.",
        "PING -> PONG",
    ),
    row("quit", -1, FREE, Connection, Run::Engine(Builtin::Quit)).help(
        "",
        "Ends the connection.",
        "QUIT -> OK",
    ),
    row("exit", -1, FREE, Connection, Run::Engine(Builtin::Quit)).help(
        "",
        "Ends the connection, as QUIT.",
        "EXIT -> OK",
    ),
    row("reset", 1, FREE, Connection, Run::Engine(Builtin::Reset)).help(
        "",
        "Makes the connection as new; one that has sent RESP still gets RESP.",
        "RESET -> RESET",
    ),
    row("select", 2, FAST.and(Flags::CONNECTION), Connection, Run::Engine(Builtin::Select)).help(
        "index",
        "Chooses a database; there is only number 0.",
        "SELECT 0 -> OK",
    ),
    row("multi", 1, TRANSACTION, Transactions, Run::Engine(Builtin::Multi)).help(
        "",
        "Begins a transaction: commands are queued, and EXEC runs them as one.",
        "MULTI -> OK",
    ),
    row("exec", 1, Flags::LOADING.and(Flags::CONNECTION), Transactions, Run::Engine(Builtin::Exec))
        .help(
            "",
            "Runs the queued commands at one instant, unless a watched key has changed.",
            "MULTI; SET a 1; INCR a; EXEC -> 1) OK\n2) 2",
        ),
    row("discard", 1, TRANSACTION, Transactions, Run::Engine(Builtin::Discard)).help(
        "",
        "Forgets the queued commands and the watched keys.",
        "MULTI; SET a 1; DISCARD -> OK",
    ),
    Command {
        keys: Keys::ALL,
        ..row("watch", -2, TRANSACTION, Transactions, Run::Engine(Builtin::Watch))
    }
    .on_keys(&["RO"])
    .help(
        "key [key ...]",
        "Makes the next EXEC do nothing if one of these keys changes before it.",
        "SET stock 1; WATCH stock -> OK",
    ),
    row("unwatch", 1, TRANSACTION, Transactions, Run::Engine(Builtin::Unwatch)).help(
        "",
        "Forgets the watched keys.",
        "WATCH stock; UNWATCH -> OK",
    ),
    row("publish", 3, FAST.and(Flags::MAY_REPLICATE), PubSub, Run::Engine(Builtin::Publish))
        .rest(2)
        .help(
            "channel message",
            "Sends a message to all who listen to a channel now; answers how many.",
            "PUBLISH news hello world -> 0",
        ),
    row("subscribe", -2, LISTEN, PubSub, Run::Engine(Builtin::Subscribe)).help(
        "channel [channel ...]",
        "Listens to channels; RESET ends it.",
        "SUBSCRIBE news -> subscribe news 1",
    ),
    row("unsubscribe", -1, LISTEN, PubSub, Run::Engine(Builtin::Unsubscribe)).help(
        "[channel [channel ...]]",
        "Stops listening to these channels, or to all.",
        "SUBSCRIBE news; UNSUBSCRIBE news -> unsubscribe news 0",
    ),
    row("psubscribe", -2, LISTEN, PubSub, Run::Engine(Builtin::Psubscribe)).help(
        "pattern [pattern ...]",
        "Listens to all channels whose names match glob patterns.",
        "PSUBSCRIBE news.* -> psubscribe news.* 1",
    ),
    row("punsubscribe", -1, LISTEN, PubSub, Run::Engine(Builtin::Punsubscribe)).help(
        "[pattern [pattern ...]]",
        "Stops listening to these patterns, or to all.",
        "PUNSUBSCRIBE -> punsubscribe (nil) 0",
    ),
    row("pubsub", -2, FAST, PubSub, Run::Container).help(
        "subcommand [argument ...]",
        "Tells who listens.",
        "PUBSUB NUMSUB news -> 1) news\n2) 0",
    ),
    row("pubsub|channels", -2, FAST, PubSub, Run::Engine(Builtin::PubsubChannels)).help(
        "[pattern]",
        "The channels that somebody listens to by name.",
        "",
    ),
    row("pubsub|help", 2, FAST, PubSub, Run::Engine(Builtin::PubsubHelp)).help(
        "",
        "Lists the subcommands.",
        "",
    ),
    row("pubsub|numpat", 2, FAST, PubSub, Run::Engine(Builtin::PubsubNumpat)).help(
        "",
        "How many patterns are listened to.",
        "",
    ),
    row("pubsub|numsub", -2, FAST, PubSub, Run::Engine(Builtin::PubsubNumsub)).help(
        "[channel [channel ...]]",
        "How many listen to channels by name.",
        "",
    ),
    row("bgrewriteaof", 1, Flags::ADMIN, Server, Run::Engine(Builtin::Bgrewriteaof)).help(
        "",
        "Compacts the log in the background: replaces it by the state it leads to.",
        "BGREWRITEAOF -> Background append only file rewriting started",
    ),
    row("bgsave", -1, Flags::ADMIN, Server, Run::Engine(Builtin::Bgsave)).help(
        "[SCHEDULE]",
        "The same as BGREWRITEAOF, for tools that ask for a snapshot.",
        "BGSAVE -> Background saving started",
    ),
    row("save", 1, Flags::ADMIN.and(Flags::NO_MULTI), Server, Run::Engine(Builtin::Save)).help(
        "",
        "Compacts the log and answers when it is done; other connections go on.",
        "SAVE -> OK",
    ),
    row("lastsave", 1, FAST, Server, Run::Engine(Builtin::Lastsave)).help(
        "",
        "When the log was last compacted, in Unix seconds.",
        "LASTSAVE -> (a number)",
    ),
    row("command", -1, FAST, Server, Run::ContainerOr(Builtin::CommandAll)).help(
        "[subcommand [argument ...]]",
        "Describes the commands to programs; people want HELP.",
        "COMMAND COUNT -> (a number)",
    ),
    row("command|count", 2, FAST, Server, Run::Engine(Builtin::CommandCount)).help(
        "",
        "How many commands there are.",
        "",
    ),
    row("command|docs", -2, FAST, Server, Run::Engine(Builtin::CommandDocs)).help(
        "[command-name [command-name ...]]",
        "Documentation of commands.",
        "",
    ),
    row("command|getkeys", -4, FAST, Server, Run::Engine(Builtin::CommandGetkeys)).help(
        "command argument [argument ...]",
        "The keys of a call.",
        "",
    ),
    row("command|getkeysandflags", -4, FAST, Server, Run::Engine(Builtin::CommandGetkeysandflags))
        .help(
            "command argument [argument ...]",
            "The keys of a call, and what is done to them.",
            "",
        ),
    row("command|help", 2, FAST, Server, Run::Engine(Builtin::CommandHelp)).help(
        "",
        "Lists the subcommands.",
        "",
    ),
    row("command|info", -2, FAST, Server, Run::Engine(Builtin::CommandInfo)).help(
        "[command-name [command-name ...]]",
        "The rows of commands.",
        "",
    ),
    row("command|list", -2, FAST, Server, Run::Engine(Builtin::CommandList)).help(
        "[FILTERBY MODULE module-name | ACLCAT category | PATTERN pattern]",
        "The names of all commands.",
        "",
    ),
    row("config", -2, ADMIN, Server, Run::Container).help(
        "subcommand [argument ...]",
        "Reads and changes the settings.",
        "CONFIG GET maxclients -> 1) maxclients\n2) 10000",
    ),
    row("config|get", -3, ADMIN, Server, Run::Engine(Builtin::ConfigGet)).help(
        "pattern [pattern ...]",
        "The settings that match.",
        "",
    ),
    row("config|help", 2, ADMIN, Server, Run::Engine(Builtin::ConfigHelp)).help(
        "",
        "Lists the subcommands.",
        "",
    ),
    row("config|resetstat", 2, ADMIN, Server, Run::Engine(Builtin::ConfigResetstat)).help(
        "",
        "Sets the counters of INFO to zero.",
        "",
    ),
    row("config|rewrite", 2, ADMIN, Server, Run::Engine(Builtin::ConfigRewrite)).help(
        "",
        "Writes the settings to the configuration file.",
        "",
    ),
    row("config|set", -4, ADMIN, Server, Run::Engine(Builtin::ConfigSet)).help(
        "parameter value [parameter value ...]",
        "Changes settings, all or none.",
        "",
    ),
    row("debug", -2, ADMIN, Server, Run::Container).help(
        "subcommand [argument ...]",
        "For tests of the server.",
        "DEBUG SLEEP 0.5 -> OK",
    ),
    row("debug|help", 2, ADMIN, Server, Run::Engine(Builtin::DebugHelp)).help(
        "",
        "Lists the subcommands.",
        "",
    ),
    row("debug|loadaof", 2, ADMIN, Server, Run::Engine(Builtin::DebugReload)).help(
        "",
        "Reads everything back from disk, as a restart would.",
        "",
    ),
    row("debug|reload", -2, ADMIN, Server, Run::Engine(Builtin::DebugReload)).help(
        "[MERGE] [NOFLUSH] [NOSAVE]",
        "Reads everything back from disk, as a restart would.",
        "",
    ),
    row("debug|set-active-expire", 3, ADMIN, Server, Run::Engine(Builtin::DebugSetActiveExpire))
        .help("0 | 1", "Turns the sweeper off and on.", ""),
    row("debug|sleep", 3, ADMIN, Server, Run::Engine(Builtin::DebugSleep)).help(
        "seconds",
        "Keeps this connection waiting; the others go on.",
        "",
    ),
    row("help", -1, FAST, Server, Run::Engine(Builtin::Help)).help(
        "[command | family]",
        "Lists the commands, or those of a family, or explains one; ? is the same.",
        "HELP SET -> (its grammar, its meaning, an example)",
    ),
    row("info", -1, FAST, Server, Run::Engine(Builtin::Info)).help(
        "[section [section ...]]",
        "State and counters of the server.",
        "INFO clients -> (lines of name:value)",
    ),
    row("latency", -2, ADMIN, Server, Run::Container).help(
        "subcommand [argument ...]",
        "What took long, by kind of event; how long commands take.",
        "LATENCY LATEST -> (empty)",
    ),
    row("latency|doctor", 2, ADMIN, Server, Run::Engine(Builtin::LatencyDoctor)).help(
        "",
        "What took long, in words, with advice.",
        "",
    ),
    row("latency|help", 2, ADMIN, Server, Run::Engine(Builtin::LatencyHelp)).help(
        "",
        "Lists the subcommands.",
        "",
    ),
    row("latency|histogram", -2, ADMIN, Server, Run::Engine(Builtin::LatencyHistogram)).help(
        "[command-name [command-name ...]]",
        "How many calls of a command took less than so many microseconds.",
        "",
    ),
    row("latency|history", 3, ADMIN, Server, Run::Engine(Builtin::LatencyHistory)).help(
        "event",
        "When events of this kind took long, and how many milliseconds.",
        "",
    ),
    row("latency|latest", 2, ADMIN, Server, Run::Engine(Builtin::LatencyLatest)).help(
        "",
        "Of each kind of event: when, the latest, the longest.",
        "",
    ),
    row("latency|reset", -2, ADMIN, Server, Run::Engine(Builtin::LatencyReset)).help(
        "[event [event ...]]",
        "Forgets events; answers how many kinds.",
        "",
    ),
    row("lolwut", -1, Flags::FAST, Server, Run::Engine(Builtin::Lolwut)).help(
        "[VERSION version]",
        "A picture, and the version.",
        "LOLWUT -> (a picture)",
    ),
    row("monitor", 1, TAKES_OVER, Server, Run::Engine(Builtin::Monitor)).help(
        "",
        "Shows every command of every client as it runs, until RESET or the end.",
        "MONITOR -> OK",
    ),
    row("shutdown", -1, TAKES_OVER, Server, Run::Engine(Builtin::Shutdown)).help(
        "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
        "Ends the server in order.",
        "SHUTDOWN -> (the connection closes)",
    ),
    row("slowlog", -2, ADMIN, Server, Run::Container).help(
        "subcommand [argument ...]",
        "The commands that took long, and where their time went.",
        "SLOWLOG LEN -> 0",
    ),
    row("slowlog|get", -2, ADMIN, Server, Run::Engine(Builtin::SlowlogGet)).help(
        "[count] [TIMELINE]",
        "The newest ones, 10 or so many; -1 is all.",
        "",
    ),
    row("slowlog|help", 2, ADMIN, Server, Run::Engine(Builtin::SlowlogHelp)).help(
        "",
        "Lists the subcommands.",
        "",
    ),
    row("slowlog|len", 2, ADMIN, Server, Run::Engine(Builtin::SlowlogLen)).help(
        "",
        "How many are kept.",
        "",
    ),
    row("slowlog|reset", 2, ADMIN, Server, Run::Engine(Builtin::SlowlogReset)).help(
        "",
        "Forgets them.",
        "",
    ),
    row(
        "trace",
        -2,
        ADMIN.and(Flags::CONNECTION).and(Flags::NO_MULTI),
        Server,
        Run::Prefix(Builtin::Trace),
    )
    .help(
        "command [argument ...]",
        "Runs a command and shows where its time went.",
        "TRACE SET name Ada -> (OK, and a picture)",
    ),
    row("trace|help", 2, ADMIN, Server, Run::Engine(Builtin::TraceHelp)).help(
        "",
        "Lists the subcommands.",
        "",
    ),
    row("trace|list", -2, ADMIN, Server, Run::Engine(Builtin::TraceList)).help(
        "[count]",
        "The newest samples, 10 or so many; -1 is all.",
        "",
    ),
    row("trace|reset", 2, ADMIN, Server, Run::Engine(Builtin::TraceReset)).help(
        "",
        "Forgets the samples.",
        "",
    ),
    row("trace|sample", 3, ADMIN, Server, Run::Engine(Builtin::TraceSample)).help(
        "n",
        "Keeps the timeline of one in n commands of everybody; 0 ends that.",
        "",
    ),
    row("time", 1, FAST, Server, Run::Engine(Builtin::Time)).help(
        "",
        "The server's clock: Unix seconds and microseconds.",
        "TIME -> (seconds and microseconds)",
    ),
];

pub(super) const fn row(
    name: &'static str,
    arity: i32,
    flags: Flags,
    family: Family,
    run: Run,
) -> Command {
    let keys = Keys::NONE;
    Command {
        name,
        arity,
        flags,
        keys,
        on_keys: &[],
        run,
        family,
        rest: None,
        grammar: "",
        summary: "",
        example: "",
    }
}
