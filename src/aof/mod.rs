//! The log: the database itself. Memory is what it leads to.
//!
//! # Why a log
//!
//! A write that is acknowledged must still be there after the process, or the machine, has died. The
//! cheapest way to make a change safe is to append a description of it to a file: one sequential write,
//! whatever was changed. Everything else here follows from having that file. Reading it from the front
//! gives the state (recovery); a prefix of it gives the state of last Tuesday (`kvstore recover`);
//! sending it to another machine makes a follower; copying it is a backup; reading it with `less` is the
//! history of a key.
//!
//! What is logged is the effect, never the request: `SET n 42`, not `INCR n`. Effects hold absolute
//! values and absolute times, so applying a stretch of them twice, in order, ends in the same state;
//! compaction depends on it.
//!
//! # Files
//!
//! ```text
//! data/
//!   LOCK                  held by the server, as the directory itself is; a second one is refused
//!   node                  this node's id and its epoch
//!   base-<seq>.aof        the state at a record, so that what is before can be deleted   (base)
//!   log-<first seq>.aof   segments: records, in order                                   (record)
//!   synced                how far the log has been synced: a log that ends before it has lost records   (mark)
//!   quarantine/           what recovery cut off
//!   diverged/             what only this node had when it came back to follow another
//!   replacement/          a full copy of a leader's history, about to take this one's place
//! ```
//!
//! Each record is sealed by a checksum that also covers the record before it: a chain. `#` begins every
//! line of ours, so stock Redis takes base and segments for its own append-only files, with comments.
//!
//! # Three clients, one fsync
//!
//! A disk syncs some thousand times a second at best, however little there is to sync. So nobody syncs
//! alone when others wait (group commit):
//!
//! ```text
//! A  append 7 ─ write ─ fdatasync(7) ────────────┐ OK
//! B      append 8 ─ parks ───────────────────────┼─────────────┐
//! C          append 9 ─ parks ───────────────────┼─────────────┤
//! aof-sync                                       └ fdatasync(8,9) ┴ OK to B, OK to C
//! ```
//!
//! # What a crash can take
//!
//! | `appendfsync` | kill -9 | crash of the system, power cut | an OK means |
//! |---|---|---|---|
//! | `always` | nothing acknowledged | nothing acknowledged | the disk said that it has it |
//! | `everysec`, `100ms` … | nothing acknowledged | up to the interval, and a sync's length | the kernel has it |
//! | `no` | nothing acknowledged | what the kernel had not written: often 30 s | the kernel has it |
//!
//! An answer that never came says nothing: such a write is there whole or not at all. A command's
//! effects, and those of a whole transaction, are one record with one checksum: all or nothing.
//!
//! A disk that lies about having synced takes what it likes; the chain, or the mark, will say so at the next
//! start.
//!
//! # Reading order
//!
//! [`record`], [`epochs`], [`log`] (writing), [`scan`] and [`recovery`] (reading), `settle`, [`base`] (compaction's
//! result), [`compaction`], [`divergence`] (what a node gives up), [`replacement`] (what a full copy replaces), [`aside`],
//! [`files`], [`mark`], [`disk`]
//! (the calls that tests replace).
//!
//! # Left out
//!
//! Compression, encryption, checksums on the way from memory to here, direct I/O, a file per core. Each
//! would be faster or safer somewhere, and none is needed to lose nothing.

pub mod base;
pub mod cleanup;
pub mod compaction;
pub mod damage;
pub mod dir_lock;
pub mod disk;
pub mod epochs;
pub mod errors;
pub mod files;
pub mod log;
pub mod mark;
pub mod node;
pub mod numbers;
mod reader;
pub mod record;
pub mod recovery;
pub mod scan;
pub mod stats;
pub mod truncate;
