//! The command table: all rows, found by name.

use super::{Shape, Spec};
use crate::error::Failure;
use crate::protocol::Args;
use std::fmt;

/// A row that was found.
#[derive(Clone, Copy)]
pub struct Resolved<F> {
    /// The row.
    pub command: &'static Spec,
    /// Its function.
    pub run: F,
    /// Its index in the table, which is also that of the command's counters.
    pub index: usize,
}

/// Names of commands that are left out on purpose, separated by blanks, in groups with one reason.
pub type Absent = &'static [(&'static str, &'static str)];

/// The command table: rows, found by name. `F` is the type of their functions.
///
/// The index uses open addressing by a hash of the lower-case name.
pub struct Table<F> {
    specs: Vec<&'static Spec>,
    functions: Vec<F>,
    slots: Vec<u16>,
    absent: Absent,
}

const EMPTY: u16 = u16::MAX;

impl<F: Copy> Table<F> {
    /// Indexes these rows.
    ///
    /// # Panics
    /// If two rows have one name.
    pub fn new(rows: impl IntoIterator<Item = (&'static Spec, F)>, absent: Absent) -> Table<F> {
        let (specs, functions): (Vec<&Spec>, Vec<F>) = rows.into_iter().unzip();
        let mut slots = vec![EMPTY; (specs.len() * 4).next_power_of_two()];
        for (index, spec) in specs.iter().enumerate() {
            let mut at = hash(spec.name.bytes()) & (slots.len() - 1);
            while slots[at] != EMPTY {
                assert_ne!(specs[slots[at] as usize].name, spec.name, "two rows with one name");
                at = (at + 1) & (slots.len() - 1);
            }
            slots[at] = index as u16;
        }
        Table { specs, functions, slots, absent }
    }

    /// All rows, subcommands included.
    pub fn rows(&self) -> &[&'static Spec] {
        &self.specs
    }

    /// The rows that are no subcommands.
    pub fn top_rows(&self) -> impl Iterator<Item = &'static Spec> {
        self.specs.iter().copied().filter(|row| !row.is_subcommand())
    }

    /// The subcommands of a container.
    pub fn subcommands(&self, name: &str) -> impl Iterator<Item = &'static Spec> {
        self.specs.iter().copied().filter(move |row| {
            row.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('|'))
        })
    }

    /// The row with this name, `container|subcommand` for a subcommand, in upper or lower case.
    pub fn find(&self, name: &[u8]) -> Option<Resolved<F>> {
        self.probe(name.iter().copied())
    }

    /// The row for the first word of a request. `?` is HELP; `container|subcommand` is not a command.
    pub fn named(&self, name: &[u8]) -> Option<Resolved<F>> {
        match name {
            b"?" => self.find(b"help"),
            _ if name.contains(&b'|') => None,
            _ => self.find(name),
        }
    }

    /// The row for a request: its subcommand's, if it has one. The arity is not checked.
    pub fn lookup(&self, args: Args<'_>) -> Option<Resolved<F>> {
        let found = self.named(&args[0])?;
        let Some(name) = args.get(1) else { return Some(found) };
        match found.command.shape {
            Shape::Plain => Some(found),
            Shape::Container | Shape::ContainerOr => self.subcommand(found.command, name),
            Shape::Prefix => self.subcommand(found.command, name).or(Some(found)),
        }
    }

    /// The row for a request, with its arity checked.
    pub fn resolve(&self, args: Args<'_>) -> Result<Resolved<F>, Failure> {
        let found = self.lookup(args).ok_or_else(|| match self.named(&args[0]) {
            Some(container) => unknown_subcommand(container.command.name, &args[1]),
            None => unknown(args, self.why_absent(&args[0])),
        })?;
        if found.command.accepts(args.len()) {
            Ok(found)
        } else if found.command.name.starts_with("debug|") {
            Err(Failure::misused("DEBUG", shown(&args[1], 128)))
        } else {
            Err(Failure::arity(found.command.name))
        }
    }

    /// The row for a request that may be wrong: a container's if the subcommand is unknown.
    pub fn row_of(&self, args: Args<'_>) -> Option<&'static Spec> {
        let found = self.named(args.get(0)?)?.command;
        let subcommand = args.get(1).and_then(|name| self.subcommand(found, name));
        Some(subcommand.map_or(found, |found| found.command))
    }

    fn subcommand(&self, container: &Spec, name: &[u8]) -> Option<Resolved<F>> {
        self.probe(container.name.bytes().chain([b'|']).chain(name.iter().copied()))
    }

    /// The reason why no command has this name, if that is on purpose.
    pub fn why_absent(&self, name: &[u8]) -> Option<&'static str> {
        let is_name = |word: &str| word.as_bytes().eq_ignore_ascii_case(name);
        let group = self.absent.iter().find(|(names, _)| names.split(' ').any(is_name));
        group.map(|(_, reason)| *reason)
    }

    fn probe(&self, name: impl Iterator<Item = u8> + Clone) -> Option<Resolved<F>> {
        let mut at = hash(name.clone()) & (self.slots.len() - 1);
        while self.slots[at] != EMPTY {
            let index = self.slots[at] as usize;
            let lower = name.clone().map(|byte| byte.to_ascii_lowercase());
            if lower.eq(self.specs[index].name.bytes()) {
                let (command, run) = (self.specs[index], self.functions[index]);
                return Some(Resolved { command, run, index });
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        None
    }
}

impl<F> fmt::Debug for Resolved<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.command.name)
    }
}

impl<F> fmt::Debug for Table<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} rows)", self.specs.len())
    }
}

/// Redis's error for an unknown command: up to 128 bytes of the name and about as many of the arguments, each up
/// to a NUL; then the reason, if the command is left out on purpose.
fn unknown(args: Args<'_>, reason: Option<&str>) -> Failure {
    const SHOWN_MAX: usize = 128;
    let mut beginning = Vec::new();
    for arg in args.from(1) {
        if beginning.len() >= SHOWN_MAX {
            break;
        }
        let room = SHOWN_MAX - beginning.len();
        beginning.push(b'\'');
        beginning.extend_from_slice(shown(arg, room));
        beginning.extend_from_slice(b"' ");
    }
    let name = shown(&args[0], SHOWN_MAX);
    if let Some(reason) = reason {
        beginning.extend_from_slice(format!("({reason})").as_bytes());
    }
    let text: [&[u8]; 4] =
        [b"ERR unknown command '", name, b"', with args beginning with: ", &beginning];
    Failure::new(text.concat())
}

fn shown(bytes: &[u8], max: usize) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(max)];
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn unknown_subcommand(container: &str, name: &[u8]) -> Failure {
    if container == "debug" {
        return Failure::misused("DEBUG", shown(name, 128));
    }
    let ending = format!("'. Try {} HELP.", container.to_uppercase());
    Failure::quoting("ERR unknown subcommand '", shown(name, 128), &ending)
}

/// FNV-1a over the lower-case bytes. The names are ours, so no client can choose them to collide.
fn hash(name: impl Iterator<Item = u8>) -> usize {
    name.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x100_0000_01b3)
    }) as usize
}
