//! The log: the database itself. Memory is the state that it leads to.
//!
//! # Why a log
//!
//! A write that is acknowledged must still be there after the process, or the machine, has died. The cheapest way
//! to make a change safe is to append a description of it to a file: one sequential write, whatever was changed.
//! Everything else follows from that file. Reading it from the front gives the state (recovery); a prefix of it
//! gives the state of last Tuesday (`kvstore recover`); sending it to another machine makes a follower; copying it
//! is a backup; reading it with `less` shows the history of a key.
//!
//! The log holds effects, never requests: `SET n 42`, not `INCR n`. Effects have absolute values and absolute
//! times, so applying a stretch of them twice, in order, ends in the same state. Compaction depends on that.
//!
//! # Files
//!
//! ```text
//! data/
//!   LOCK                  held by the server, as the directory itself is       (dir_lock)
//!   node                  this node's id, and the last epoch in which it led   (cluster)
//!   base-<seq>.aof        the state at a record: older segments can go         (base)
//!   log-<first seq>.aof   segments: records, in order                          (record)
//!   synced                the mark: how far the log has been synced            (mark)
//!   quarantine/           what recovery cut off                                (cleanup)
//! ```
//!
//! Each record is sealed by a checksum that also covers the record before it: a chain. Each line of ours begins
//! with `#`, so stock Redis takes base and segments for its append-only files, with comments.
//!
//! # Three clients, one fsync
//!
//! A disk syncs some thousand times a second at best, however little there is to sync. So a client whose write
//! must be durable while a sync is going on joins the next one (group commit):
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
//! | `everysec`, `100ms` … | nothing acknowledged | the interval, and the time of a sync | the kernel has it |
//! | `no` | nothing acknowledged | what the kernel had not written: often 30 s | the kernel has it |
//!
//! A write that was not answered is there whole or not at all: the effects of a command, or of a transaction, are
//! one record with one checksum. A disk that lies about having synced may take anything; the chain or the mark
//! shows it at the next start.
//!
//! # Reading order
//!
//! [`record`], [`epochs`], [`outline`], [`log`] (writing), [`scan`] and [`recovery`] (reading), [`cleanup`], [`base`],
//! [`compaction`], [`files`], [`mark`], [`disk`] (the calls that tests replace).
//!
//! # Left out
//!
//! Compression, encryption, checksums on the way from memory to here, direct I/O, a file per core. Each would be
//! faster or safer somewhere; none is needed to lose nothing.

pub mod base;
pub mod cleanup;
pub mod compaction;
pub mod dir_lock;
pub mod disk;
pub mod epochs;
pub mod errors;
pub mod files;
pub mod log;
pub mod mark;
pub mod numbers;
pub mod outline;
mod reader;
pub mod record;
pub mod recovery;
pub mod scan;
pub(crate) mod sealed;
pub mod stats;
