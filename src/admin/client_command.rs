//! CLIENT: shows, names, pauses, unblocks and closes connections.

use crate::clients::NO_COMMAND;
use crate::clients::blocked::Unblock;
use crate::clients::pause::PauseKind;
use crate::clients::socket::Addr;
use crate::commands::Family::Connection;
use crate::commands::Flags;
use crate::config::ClientClass;
use crate::engine::session::{Ending, Mode, ReplyMode};
use crate::engine::table::{ADMIN, FAST, Row, ServerCall, container, sub, subcommands};
use crate::engine::{Client, ClientId, Engine};
use crate::error::{Failure, NOT_AN_INTEGER, SYNTAX};
use crate::protocol::{Args, integer};
use crate::pubsub::Kind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

#[rustfmt::skip]
pub const COMMANDS: &[Row] = &[
    container(Connection, "client", FAST, subcommands, "Shows and changes connections.",
        "CLIENT ID -> (the number of this connection)"),
    sub(Connection, "client|getname", 2, FAST, getname, "", "Returns the name of this connection."),
    sub(Connection, "client|help", 2, FAST, subcommands, "", "Lists the subcommands."),
    sub(Connection, "client|id", 2, FAST, id, "", "Returns the number of this connection."),
    sub(Connection, "client|info", 2, FAST, info, "", "Returns the line of CLIENT LIST for this connection."),
    sub(Connection, "client|kill", -3, ADMIN, kill,
        "ip:port | [ID client-id] [TYPE NORMAL | MASTER | REPLICA | PUBSUB] [USER username] \
         [ADDR ip:port] [LADDR ip:port] [SKIPME yes/no]",
        "Closes connections."),
    sub(Connection, "client|list", -2, ADMIN, list,
        "[TYPE NORMAL | MASTER | REPLICA | PUBSUB] [ID client-id [client-id ...]]", "Lists the connections."),
    sub(Connection, "client|no-evict", 3, ADMIN, |call, args| on_or_off(call, args, |it| &it.no_evict),
        "ON | OFF", "Exempts this connection when clients are closed to free memory."),
    sub(Connection, "client|no-touch", 3, FAST, |call, args| on_or_off(call, args, |it| &it.no_touch),
        "ON | OFF", "Makes reads of this connection not count as uses of a key."),
    sub(Connection, "client|pause", -3, ADMIN.and(Flags::UNPAUSED), pause, "milliseconds [WRITE | ALL]",
        "Delays the commands of all clients."),
    sub(Connection, "client|reply", 3, FAST.and(Flags::CONNECTION), reply_mode, "ON | OFF | SKIP",
        "Turns the replies to this connection off and on."),
    sub(Connection, "client|setinfo", 4, FAST, setinfo, "LIB-NAME name | LIB-VER version",
        "Sets the name or the version of the client's library."),
    sub(Connection, "client|setname", 3, FAST, setname, "name", "Names this connection."),
    sub(Connection, "client|unblock", -3, ADMIN, unblock, "client-id [TIMEOUT | ERROR]",
        "Ends the wait of a client that is blocked in a command."),
    sub(Connection, "client|unpause", 2, ADMIN.and(Flags::UNPAUSED), unpause, "", "Ends CLIENT PAUSE."),
];

fn getname(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    let name = call.session.client.labels.lock().name.clone();
    call.reply.bulk_or_nil(Some(name.as_bytes()).filter(|name| !name.is_empty()));
    Ok(())
}

fn id(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.reply.int(call.session.client.id.0 as i64);
    Ok(())
}

fn info(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.reply.page(&(describe(call.engine, &call.session.client) + "\n"));
    Ok(())
}

fn setname(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let name = valid_name(&args[2])?;
    call.session.client.labels.lock().name = name;
    call.ok()
}

fn setinfo(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    if args.is(2, "lib-name") {
        let library = one_word(&args[3], "lib-name")?;
        call.session.client.labels.lock().library = library;
    } else if args.is(2, "lib-ver") {
        let version = one_word(&args[3], "lib-ver")?;
        call.session.client.labels.lock().library_version = version;
    } else {
        return Err(Failure::quoting("ERR Unrecognized option '", &args[2], "'"));
    }
    call.ok()
}

/// A name for CLIENT LIST: one word of printable characters.
pub fn valid_name(name: &[u8]) -> Result<String, Failure> {
    one_word(name, "Client names")
}

fn one_word(word: &[u8], what: &str) -> Result<String, Failure> {
    if word.iter().all(u8::is_ascii_graphic) {
        return Ok(String::from_utf8_lossy(word).into_owned());
    }
    let text = format!("ERR {what} cannot contain spaces, newlines or special characters.");
    Err(Failure::new(text))
}

fn list(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let mut clients = connected(call.engine);
    if args.is(2, "type") && args.len() == 4 {
        let class = class(&args[3])?;
        clients.retain(|client| class == Some(client.class()));
    } else if args.is(2, "id") && args.len() > 3 {
        let ids: Option<Vec<i64>> = args.from(3).map(integer).collect();
        let ids = ids.ok_or(Failure::fixed("ERR Invalid client ID"))?;
        clients.retain(|client| ids.contains(&(client.id.0 as i64)));
    } else if args.len() > 2 {
        return Err(SYNTAX);
    }
    let lines = clients.iter().map(|client| describe(call.engine, client) + "\n");
    call.reply.page(&lines.collect::<String>());
    Ok(())
}

/// All clients but those that were killed, whose threads may need a moment to end.
fn connected(engine: &Engine) -> Vec<Arc<Client>> {
    let mut clients = engine.clients.all();
    clients.retain(|client| !client.is_killed());
    clients
}

/// A client's line in CLIENT LIST, with Redis's fields.
fn describe(engine: &Engine, client: &Client) -> String {
    let labels = client.labels.lock().clone();
    let last_command = match client.last_command.load(Relaxed) {
        NO_COMMAND => "NULL",
        index => engine.commands.rows()[index as usize].name,
    };
    let multi = client.multi_commands.load(Relaxed);
    let flags = [
        (client.monitors.load(Relaxed), 'O'),
        (client.is_follower(), 'S'),
        (client.subscriber.listens(), 'P'),
        (multi >= 0, 'x'),
        (client.blocked.is_blocked(), 'b'),
        (client.watch_fired.load(Relaxed), 'd'),
        (client.addr.is_unix(), 'U'),
        (client.no_evict.load(Relaxed), 'e'),
        (client.no_touch.load(Relaxed), 'T'),
    ];
    let set = flags.into_iter().filter(|(set, _)| *set);
    let flags = set.map(|(_, flag)| flag).collect::<String>();
    let (input, buffer) = (client.input_bytes.load(Relaxed), client.buffers.get());
    let (queued, multi_bytes) = (client.outbox.queued_bytes(), client.multi_bytes.get());
    format!(
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db=0 sub={} psub={} ssub=0 multi={multi} \
         qbuf={input} qbuf-free={} argv-mem=0 multi-mem={multi_bytes} rbs={buffer} rbp={buffer} obl=0 oll={} \
         omem={queued} tot-mem={} events={} cmd={last_command} user=default redir=-1 resp={} lib-name={} \
         lib-ver={}",
        client.id.0,
        client.addr,
        client.local_addr,
        labels.name,
        client.age_seconds(),
        client.idle_seconds(),
        if flags.is_empty() { "N" } else { &flags },
        client.subscriber.count(Kind::Channel),
        client.subscriber.count(Kind::Pattern),
        buffer.saturating_sub(input),
        usize::from(queued > 0),
        buffer + queued + multi_bytes + size_of::<Client>(),
        if queued > 0 { "rw" } else { "r" },
        client.dialect.load(Relaxed),
        labels.library,
        labels.library_version,
    )
}

/// The class of this name. None for `master`: the link to this node's leader, which is not a client here.
fn class(word: &[u8]) -> Result<Option<ClientClass>, Failure> {
    let class = str::from_utf8(word).ok().and_then(ClientClass::named);
    if class.is_none() && !word.eq_ignore_ascii_case(b"master") {
        return Err(Failure::quoting("ERR Unknown client type '", word, "'"));
    }
    Ok(class)
}

/// The clients that CLIENT KILL closes: those that match all given filters.
#[derive(Default)]
struct Filter {
    id: Option<ClientId>,
    class: Option<Option<ClientClass>>,
    addr: Option<Vec<u8>>,
    local_addr: Option<Vec<u8>>,
    /// The caller is not closed.
    skip_me: bool,
}

impl Filter {
    fn parse(args: Args<'_>) -> Result<Filter, Failure> {
        let mut filter = Filter { skip_me: true, ..Filter::default() };
        for at in (2..args.len()).step_by(2) {
            let Some(value) = args.get(at + 1) else { return Err(SYNTAX) };
            match args[at].to_ascii_lowercase().as_slice() {
                b"id" => {
                    let id = integer(value)
                        .filter(|id| *id > 0)
                        .ok_or(Failure::fixed("ERR client-id should be greater than 0"))?;
                    filter.id = Some(ClientId(id as u64));
                }
                b"type" => filter.class = Some(class(value)?),
                b"addr" => filter.addr = Some(value.to_vec()),
                b"laddr" => filter.local_addr = Some(value.to_vec()),
                b"user" if value == b"default" => {}
                b"user" => return Err(Failure::quoting("ERR No such user '", value, "'")),
                b"skipme" => filter.skip_me = yes_or_no(value)?,
                _ => return Err(SYNTAX),
            }
        }
        Ok(filter)
    }

    fn matches(&self, client: &Client, me: ClientId) -> bool {
        let is = |wanted: &Option<Vec<u8>>, addr: Addr| {
            wanted.as_ref().is_none_or(|wanted| *wanted == addr.to_string().into_bytes())
        };
        self.id.is_none_or(|id| id == client.id)
            && self.class.is_none_or(|class| class == Some(client.class()))
            && is(&self.addr, client.addr)
            && is(&self.local_addr, client.local_addr)
            && !(self.skip_me && client.id == me)
            // Another CLIENT KILL may have closed it since.
            && !client.is_killed()
    }

    /// True if it selects the link to this node's leader.
    fn means_leader(&self) -> bool {
        self.class == Some(None)
            && (self.id.is_none() && self.addr.is_none() && self.local_addr.is_none())
    }
}

fn kill(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let ServerCall { engine, session, reply } = call;
    let by_address = args.len() == 3;
    let filter = if by_address {
        Filter { addr: Some(args[2].to_vec()), ..Filter::default() }
    } else {
        Filter::parse(args)?
    };
    let me = session.client.id;
    let victims: Vec<Arc<Client>> =
        connected(engine).into_iter().filter(|client| filter.matches(client, me)).collect();
    for victim in &victims {
        // The caller must still get its reply.
        if victim.id == me {
            session.ending = Ending::AfterReply;
        } else {
            victim.kill();
        }
    }
    let link = usize::from(filter.means_leader() && engine.role.cut_link());
    match (by_address, victims.is_empty()) {
        (true, true) => return Err(Failure::fixed("ERR No such client")),
        (true, false) => reply.ok(),
        (false, _) => reply.count(victims.len() + link),
    }
    Ok(())
}

fn yes_or_no(word: &[u8]) -> Result<bool, Failure> {
    match word.to_ascii_lowercase().as_slice() {
        b"yes" => Ok(true),
        b"no" => Ok(false),
        _ => Err(SYNTAX),
    }
}

/// Sets a flag of this connection's client.
fn on_or_off(
    call: &mut ServerCall<'_>,
    args: Args<'_>,
    flag: fn(&Client) -> &AtomicBool,
) -> Result<(), Failure> {
    let on = args.is(2, "on");
    if !on && !args.is(2, "off") {
        return Err(SYNTAX);
    }
    flag(&call.session.client).store(on, Relaxed);
    call.ok()
}

fn reply_mode(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    call.session.reply_mode = match args[2].to_ascii_lowercase().as_slice() {
        b"on" => ReplyMode::On,
        b"off" => ReplyMode::Off,
        b"skip" if call.session.reply_mode == ReplyMode::Off => ReplyMode::Off,
        b"skip" => ReplyMode::SkipNext,
        _ => return Err(SYNTAX),
    };
    call.ok()
}

fn pause(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let kind = match args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"all") => PauseKind::All,
        Some(b"write") => PauseKind::Writes,
        Some(_) => return Err(Failure::fixed("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let millis =
        integer(&args[2]).ok_or(Failure::fixed("ERR timeout is not an integer or out of range"))?;
    let millis = u64::try_from(millis).map_err(|_| Failure::fixed("ERR timeout is negative"))?;
    // A pause in an EXEC begins at its end.
    match call.session.mode {
        Mode::Executing => call.session.pauses.push((kind, millis)),
        _ => call.engine.begin_pause(kind, millis),
    }
    call.ok()
}

fn unpause(call: &mut ServerCall<'_>, _: Args<'_>) -> Result<(), Failure> {
    call.session.pauses.clear();
    call.engine.pause.end();
    call.ok()
}

/// `CLIENT UNBLOCK client-id [TIMEOUT | ERROR]`
fn unblock(call: &mut ServerCall<'_>, args: Args<'_>) -> Result<(), Failure> {
    let how = match args.get(3) {
        None => Unblock::Timeout,
        Some(_) if args.is(3, "timeout") => Unblock::Timeout,
        Some(_) if args.is(3, "error") => Unblock::Error,
        Some(_) => {
            return Err(Failure::fixed("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
        }
    };
    let id = integer(&args[2]).ok_or(NOT_AN_INTEGER)?;
    let found = call.engine.clients.all().into_iter().find(|client| client.id.0 as i64 == id);
    call.reply.flag(found.is_some_and(|client| client.blocked.unblock(how)));
    Ok(())
}
