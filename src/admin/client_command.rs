//! CLIENT: looking at connections, naming, pausing and ending them.

use crate::config::ClientClass;
use crate::engine::pause::PauseKind;
use crate::engine::session::{Ending, Mode, ReplyMode};
use crate::engine::{Client, ClientId, Engine, Session};
use crate::error::{Failure, SYNTAX};
use crate::protocol::{Args, Reply, integer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

pub fn getname(session: &Session, reply: &mut Reply) -> Result<(), Failure> {
    let name = session.client.labels().name;
    reply.bulk_or_nil(Some(name.as_bytes()).filter(|name| !name.is_empty()));
    Ok(())
}

pub fn id(session: &Session, reply: &mut Reply) -> Result<(), Failure> {
    reply.int(session.client.id.0 as i64);
    Ok(())
}

pub fn info(engine: &Engine, session: &Session, reply: &mut Reply) -> Result<(), Failure> {
    reply.page(&(describe(engine, &session.client) + "\n"));
    Ok(())
}

pub fn setname(session: &Session, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    let name = valid_name(&args[2])?;
    session.client.set_labels(|labels| labels.name = name);
    reply.ok();
    Ok(())
}

pub fn setinfo(session: &Session, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    let valid = |option: &str| {
        printable(&args[3]).ok_or_else(|| {
            Failure::new(format!(
                "ERR {option} cannot contain spaces, newlines or special characters."
            ))
        })
    };
    if args.is(2, "lib-name") {
        let library = valid("lib-name")?;
        session.client.set_labels(|labels| labels.library = library);
    } else if args.is(2, "lib-ver") {
        let version = valid("lib-ver")?;
        session.client.set_labels(|labels| labels.library_version = version);
    } else {
        return Err(Failure::quoting("ERR Unrecognized option '", &args[2], "'"));
    }
    reply.ok();
    Ok(())
}

/// A name that keeps CLIENT LIST readable: one word.
pub fn valid_name(name: &[u8]) -> Result<String, Failure> {
    printable(name).ok_or(Failure::fixed(
        "ERR Client names cannot contain spaces, newlines or special characters.",
    ))
}

fn printable(word: &[u8]) -> Option<String> {
    let printable = word.iter().all(u8::is_ascii_graphic);
    printable.then(|| String::from_utf8_lossy(word).into_owned())
}

pub fn list(engine: &Engine, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    let mut clients = connected(engine);
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
    let lines = clients.iter().map(|client| describe(engine, client) + "\n");
    reply.page(&lines.collect::<String>());
    Ok(())
}

/// Those that were not killed: their threads may need a moment to end.
fn connected(engine: &Engine) -> Vec<Arc<Client>> {
    let mut clients = engine.clients.all();
    clients.retain(|client| !client.is_killed());
    clients
}

fn describe(engine: &Engine, client: &Client) -> String {
    client.describe(|index| engine.commands.rows()[index].name)
}

/// The class that a word means; None is the link to this node's leader, which is no client here.
fn class(word: &[u8]) -> Result<Option<ClientClass>, Failure> {
    match word.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Some(ClientClass::Normal)),
        b"pubsub" => Ok(Some(ClientClass::PubSub)),
        b"replica" | b"slave" => Ok(Some(ClientClass::Replica)),
        b"master" => Ok(None),
        _ => Err(Failure::quoting("ERR Unknown client type '", word, "'")),
    }
}

/// Which clients CLIENT KILL ends: those that pass every filter that is given.
#[derive(Default)]
struct Filter {
    id: Option<ClientId>,
    class: Option<Option<ClientClass>>,
    addr: Option<Vec<u8>>,
    local_addr: Option<Vec<u8>>,
    /// Whether the caller is spared.
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
        let is = |wanted: &Option<Vec<u8>>, addr: std::net::SocketAddr| {
            wanted.as_ref().is_none_or(|wanted| *wanted == addr.to_string().into_bytes())
        };
        self.id.is_none_or(|id| id == client.id)
            && self.class.is_none_or(|class| class == Some(client.class()))
            && is(&self.addr, client.addr)
            && is(&self.local_addr, client.local_addr)
            && !(self.skip_me && client.id == me)
            // One that is on its way out is not there to be ended again.
            && !client.is_killed()
    }

    /// Whether it means the link to this node's leader.
    fn means_leader(&self) -> bool {
        self.class == Some(None)
            && (self.id.is_none() && self.addr.is_none() && self.local_addr.is_none())
    }
}

pub fn kill(
    engine: &Engine,
    session: &mut Session,
    args: Args<'_>,
    reply: &mut Reply,
) -> Result<(), Failure> {
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
        // The caller's own reply must still arrive.
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

pub fn no_evict(session: &Session, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    on_or_off(&session.client.no_evict, args, reply)
}

pub fn no_touch(session: &Session, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    on_or_off(&session.client.no_touch, args, reply)
}

fn on_or_off(flag: &AtomicBool, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    let on = args.is(2, "on");
    if !on && !args.is(2, "off") {
        return Err(SYNTAX);
    }
    flag.store(on, Relaxed);
    reply.ok();
    Ok(())
}

pub fn reply_mode(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Result<(), Failure> {
    session.reply_mode = match args[2].to_ascii_lowercase().as_slice() {
        b"on" => ReplyMode::On,
        b"off" => ReplyMode::Off,
        b"skip" if session.reply_mode == ReplyMode::Off => ReplyMode::Off,
        b"skip" => ReplyMode::SkipNext,
        _ => return Err(SYNTAX),
    };
    reply.ok();
    Ok(())
}

pub fn pause(
    engine: &Engine,
    session: &mut Session,
    args: Args<'_>,
    reply: &mut Reply,
) -> Result<(), Failure> {
    let kind = match args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"all") => PauseKind::All,
        Some(b"write") => PauseKind::Writes,
        Some(_) => return Err(Failure::fixed("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let millis =
        integer(&args[2]).ok_or(Failure::fixed("ERR timeout is not an integer or out of range"))?;
    let millis = u64::try_from(millis).map_err(|_| Failure::fixed("ERR timeout is negative"))?;
    // Its own EXEC is not held up.
    match session.mode {
        Mode::Executing => session.pauses.push((kind, millis)),
        _ => engine.begin_pause(kind, millis),
    }
    reply.ok();
    Ok(())
}

pub fn unpause(engine: &Engine, session: &mut Session, reply: &mut Reply) -> Result<(), Failure> {
    session.pauses.clear();
    engine.pause.end();
    reply.ok();
    Ok(())
}
