//! The log: the database itself.

pub mod base;
pub mod disk;
pub mod files;
pub mod log;
pub mod record;
pub mod recovery;
pub mod scan;
pub mod stats;
