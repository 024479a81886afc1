//! The file `node`: a node's identity and promises ([`Term`]), in its data directory.

use super::term::{Boot, Memory, NodeId, Term};
use crate::aof::record::Epoch;
use crate::clock::boot_millis;
use crate::file_error::{about, if_there, named};
use crate::random;
use crate::replace::replace;
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const NODE: &str = "node";

/// The kernel's id of this boot of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// For tests, which cannot cut the power: another id.
const BOOT_ID_VARIABLE: &str = "KVSTORE_BOOT_ID";

/// True if the directory has the file: then a server has run on it.
pub fn is_there(dir: &Path) -> bool {
    dir.join(NODE).is_file()
}

/// Reads the file; a directory without one gets a new id.
pub fn read(dir: &Path) -> io::Result<Term> {
    let path = dir.join(NODE);
    let text = if_there(fs::read_to_string(&path)).map_err(named(&path))?;
    let Some(text) = text else { return Ok(Term::new(NodeId::random())) };
    Term::parse(&text).ok_or_else(|| {
        about(
            &path,
            "it is damaged: its seal is not that of its lines. Restore it from a backup, or remove it: then this \
             node gets a new id",
        )
    })
}

/// Replaces the file, durably.
pub fn write(dir: &Path, term: &Term) -> io::Result<()> {
    replace(&dir.join(NODE), term.text().as_bytes())
}

impl Boot {
    /// This moment, for a directory.
    pub fn now(dir: &Path) -> io::Result<Boot> {
        let id = env::var(BOOT_ID_VARIABLE).or_else(|_| fs::read_to_string(BOOT_ID));
        let id = id.unwrap_or_default().trim().replace(' ', "");
        let device = fs::metadata(dir).map_err(named(dir))?.dev();
        Ok(Boot { id, at: boot_millis(), device })
    }
}

impl NodeId {
    /// A new one.
    pub fn random() -> NodeId {
        NodeId::parse(&random::hex40()).expect("40 hex digits")
    }
}

impl Term {
    /// This node was chosen to lead this epoch, by a person or a program beside it: it votes for itself.
    pub fn lead(&mut self, epoch: Epoch) {
        self.epoch = self.epoch.max(epoch);
        self.vote = Some(self.id);
        self.led = epoch;
        self.memory = Memory::Whole;
    }
}
