//! Which function runs which of the engine's own commands.

use super::{client_command, command_command, connection, help, log_command, server_command};
use crate::commands::Builtin;
use crate::engine::{Engine, Session, blocked, transaction};
use crate::error::Failure;
use crate::observe::{latency, slowlog, trace};
use crate::protocol::{Args, Reply};
use crate::pubsub::Kind;
use crate::pubsub::commands as pubsub_command;
use crate::replication::commands as replication_command;

impl Engine {
    pub(crate) fn run_builtin(
        &self,
        builtin: Builtin,
        session: &mut Session,
        args: Args<'_>,
        reply: &mut Reply,
    ) -> Result<(), Failure> {
        match builtin {
            Builtin::Auth => connection::auth(self, session, args, reply),
            Builtin::Echo => connection::echo(args, reply),
            Builtin::Hello => connection::hello(self, session, args, reply),
            Builtin::Ping => connection::ping(session, args, reply),
            Builtin::Quit => connection::quit(session, reply),
            Builtin::Reset => connection::reset(self, session, reply),
            Builtin::Select => connection::select(args, reply),

            Builtin::Discard => transaction::discard(session, reply),
            Builtin::Exec => self.exec(session, reply),
            Builtin::Multi => transaction::multi(session, reply),
            Builtin::Unwatch => transaction::unwatch(session, reply),
            Builtin::Watch => transaction::watch(self, session, args, reply),

            Builtin::ClientGetname => client_command::getname(session, reply),
            Builtin::ClientHelp => help::subcommands(self, "client", reply),
            Builtin::ClientId => client_command::id(session, reply),
            Builtin::ClientInfo => client_command::info(self, session, reply),
            Builtin::ClientKill => client_command::kill(self, session, args, reply),
            Builtin::ClientList => client_command::list(self, args, reply),
            Builtin::ClientNoEvict => client_command::no_evict(session, args, reply),
            Builtin::ClientNoTouch => client_command::no_touch(session, args, reply),
            Builtin::ClientPause => client_command::pause(self, session, args, reply),
            Builtin::ClientReply => client_command::reply_mode(session, args, reply),
            Builtin::ClientSetinfo => client_command::setinfo(session, args, reply),
            Builtin::ClientSetname => client_command::setname(session, args, reply),
            Builtin::ClientUnblock => blocked::unblock(self, args, reply),
            Builtin::ClientUnpause => client_command::unpause(self, session, reply),

            Builtin::Subscribe => {
                pubsub_command::subscribe(self, session, Kind::Channel, args, reply)
            }
            Builtin::Psubscribe => {
                pubsub_command::subscribe(self, session, Kind::Pattern, args, reply)
            }
            Builtin::Unsubscribe => {
                pubsub_command::unsubscribe(self, session, Kind::Channel, args, reply)
            }
            Builtin::Punsubscribe => {
                pubsub_command::unsubscribe(self, session, Kind::Pattern, args, reply)
            }
            Builtin::Publish => pubsub_command::publish(self, session, args, reply),
            Builtin::PubsubChannels => pubsub_command::channels(self, args, reply),
            Builtin::PubsubHelp => help::subcommands(self, "pubsub", reply),
            Builtin::PubsubNumpat => pubsub_command::numpat(self, reply),
            Builtin::PubsubNumsub => pubsub_command::numsub(self, args, reply),

            Builtin::CommandAll => command_command::all(self, reply),
            Builtin::CommandCount => command_command::count(self, reply),
            Builtin::CommandDocs => command_command::docs(self, args, reply),
            Builtin::CommandGetkeys => command_command::getkeys(self, args, reply),
            Builtin::CommandGetkeysandflags => command_command::getkeysandflags(self, args, reply),
            Builtin::CommandHelp => help::subcommands(self, "command", reply),
            Builtin::CommandInfo => command_command::info(self, args, reply),
            Builtin::CommandList => command_command::list(self, args, reply),

            Builtin::ConfigGet => server_command::config_get(self, args, reply),
            Builtin::ConfigHelp => help::subcommands(self, "config", reply),
            Builtin::ConfigResetstat => server_command::config_resetstat(self, reply),
            Builtin::ConfigRewrite => server_command::config_rewrite(self, reply),
            Builtin::ConfigSet => server_command::config_set(self, session, args, reply),
            Builtin::Bgrewriteaof => log_command::bgrewriteaof(self, reply),
            Builtin::Bgsave => log_command::bgsave(self, args, reply),
            Builtin::DebugReload => log_command::debug_reload(self, args, reply),
            Builtin::Lastsave => log_command::lastsave(self, reply),
            Builtin::Save => log_command::save(self, reply),
            Builtin::Waitaof => replication_command::waitaof(self, session, args, reply),
            Builtin::Lastseq => replication_command::lastseq(self, session, reply),
            Builtin::Promote => replication_command::promote(self, args, reply),
            Builtin::Replicaof => replication_command::replicaof(self, args, reply),
            Builtin::Replicate => replication_command::replicate(session, args),
            Builtin::Role => replication_command::role(self, reply),
            Builtin::Wait => replication_command::wait(self, session, args, reply),
            Builtin::Waitseq => replication_command::waitseq(self, session, args, reply),
            Builtin::DebugHelp => help::subcommands(self, "debug", reply),
            Builtin::DebugSetActiveExpire => {
                server_command::debug_set_active_expire(self, args, reply)
            }
            Builtin::DebugSleep => server_command::debug_sleep(self, args, reply),
            Builtin::Help => help::help(self, args, reply),
            Builtin::Info => server_command::info(self, args, reply),
            Builtin::LatencyDoctor => latency::doctor(self, reply),
            Builtin::LatencyHelp => help::subcommands(self, "latency", reply),
            Builtin::LatencyHistogram => latency::histogram(self, args, reply),
            Builtin::LatencyHistory => latency::history(self, args, reply),
            Builtin::LatencyLatest => latency::latest(self, reply),
            Builtin::LatencyReset => latency::reset(self, args, reply),
            Builtin::Lolwut => server_command::lolwut(reply),
            Builtin::Shutdown => server_command::shutdown(self, session, args),
            Builtin::Monitor => server_command::monitor(session, reply),
            Builtin::SlowlogGet => slowlog::get(self, args, reply),
            Builtin::SlowlogHelp => help::subcommands(self, "slowlog", reply),
            Builtin::SlowlogLen => slowlog::len(self, reply),
            Builtin::SlowlogReset => slowlog::reset(self, reply),
            Builtin::Time => server_command::time(reply),
            Builtin::Trace => trace::run(self, session, args, reply),
            Builtin::TraceHelp => help::subcommands(self, "trace", reply),
            Builtin::TraceList => trace::list(self, args, reply),
            Builtin::TraceReset => trace::reset(self, reply),
            Builtin::TraceSample => trace::sample(self, session, args, reply),
        }
    }
}
