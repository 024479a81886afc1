//! A node's identity, in a file of its data directory.

use crate::aof::numbers::canonical_number;
use crate::aof::record::Epoch;
use crate::file_error::{about, if_there, named};
use crate::random;
use crate::replace::replace;
use std::fs;
use std::io;
use std::path::Path;

const NODE: &str = "node";

/// A node's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// 40 hex digits, chosen once for the directory.
    pub id: String,
    /// The last epoch in which this node led; 0 before the first.
    pub epoch: Epoch,
}

impl Node {
    /// Reads the file; a directory without one gets a new id.
    pub fn read(dir: &Path) -> io::Result<Node> {
        let path = dir.join(NODE);
        let text = if_there(fs::read_to_string(&path)).map_err(named(&path))?;
        let Some(text) = text else { return Ok(Node { id: random::hex40(), epoch: Epoch(0) }) };
        Node::parse(&text).ok_or_else(|| {
            about(
                &path,
                "it is damaged: it must hold 'id <40 hex>' and 'epoch <n>'. Restore it from a backup, or remove \
                 it: then this node gets a new id",
            )
        })
    }

    fn parse(text: &str) -> Option<Node> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let id = field("id ").filter(|id| id.len() == 40)?.to_string();
        let epoch = Epoch(canonical_number(field("epoch ")?.as_bytes())?);
        Some(Node { id, epoch })
    }

    /// Replaces the file.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        replace(&dir.join(NODE), format!("id {}\nepoch {}\n", self.id, self.epoch.0).as_bytes())
    }
}
