//! `kvstore cluster forget`: takes a data directory out of its cluster, so that another one can take it in.
//!
//! After PROMOTE FORCE a survivor of the old cluster is a member of a cluster that is gone, and refuses the new one. Here
//! it becomes a new node: with another id, so that no promise of the old one binds it and no vote of the old cluster
//! counts it, and without a cluster. Its log stays. Of the members records there, none of the old cluster counts; what
//! the next cluster does not have is saved to `diverged/` when the node follows its leader.

use super::{Error, at, say};
use crate::aof::dir_lock::DirLock;
use crate::aof::recovery;
use crate::cluster::node;
use crate::cluster::term::{ClusterId, NodeId, Term};
use std::path::Path;

/// Runs the tool on a directory.
pub(super) fn forget(dir: &Path) -> Result<(), Error> {
    if !node::is_there(dir) {
        let what = "it has no file 'node', so it is no data directory of kvstore";
        return Err(Error::Failed(format!("{}: {what}", dir.display())));
    }
    let _lock = DirLock::hold(dir).map_err(at(dir))?;
    let before = node::read(dir).map_err(at(dir))?;
    let recovered = recovery::read(dir, |_| Ok(()))?;
    let newest = recovered.outline.members().map(|members| members.cluster);
    let left = to_leave(&before, newest)
        .map_err(|why| Error::Failed(format!("{}: {why}", dir.display())))?;
    let term = Term { left: Some(left), ..Term::new(NodeId::random()) };
    node::write(dir, &term).map_err(at(dir))?;
    let (from, last) = (before.cluster.unwrap_or(left), recovered.end.last.seq);
    say(format!(
        "{}: node {} has left cluster {from}; with records up to {last} it is node {} now, of no cluster. Start it with \
         a member of the next cluster among its cluster-nodes, then MEMBERS ADD it there. What that cluster does not \
         have is saved in diverged/",
        dir.display(),
        before.id,
        term.id
    ))
}

/// The cluster whose members records must not count any more: that of the newest one.
fn to_leave(before: &Term, newest: Option<ClusterId>) -> Result<ClusterId, String> {
    let cluster = newest.or(before.cluster).ok_or("it belongs to no cluster")?;
    if before.counts(cluster) || before.cluster.is_some() {
        return Ok(cluster);
    }
    Err(format!("it has left cluster {cluster} already"))
}
