//! Figures that the kernel keeps about this process and the machine. Each is `None` where `/proc` is missing.

use std::fs;
use std::path::Path;

/// Resident memory of this process.
pub fn resident_bytes() -> Option<usize> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size())
}

/// Memory of the machine.
pub fn system_bytes() -> Option<usize> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let total = meminfo.strip_prefix("MemTotal:")?.split_ascii_whitespace().next()?;
    Some(total.parse::<usize>().ok()? << 10)
}

/// The disk that this directory is on: bytes that are free for the process, and all its bytes.
pub fn disk_bytes(dir: &Path) -> Option<[u64; 2]> {
    let disk = rustix::fs::statvfs(dir).ok()?;
    Some([disk.f_bavail, disk.f_blocks].map(|blocks| blocks.saturating_mul(disk.f_frsize)))
}

/// CPU time of this process in user mode and in system mode.
pub fn cpu_seconds() -> Option<[f64; 2]> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in brackets and may hold blanks.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / ticks);
    Some([seconds()?, seconds()?])
}

/// Open descriptors of this process, the one for reading this included.
pub fn open_files() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count())
}

/// Threads of this process.
pub fn threads() -> Option<usize> {
    Some(fs::read_dir("/proc/self/task").ok()?.count())
}
