//! Hazard: a file of the log is damaged, in any one bit, or cut off at any byte.
//!
//! A small log with several segments, with and without a base, is damaged in every single way. Recovery
//! must refuse and name file, byte and record: the mark proves that all of it was on the disk. Without a
//! mark, there is a second right way: the end of the last segment goes to the quarantine and the state is
//! the one before it. Damage with an intact record after it is always refused.

mod common;

use common::history::{History, NOW, open_log, recover};
use common::memory_disk::memory_backed;
use kvstore::aof::cleanup;
use kvstore::aof::compaction::compact;
use kvstore::aof::disk::Directory;
use kvstore::aof::record::Epoch;
use kvstore::aof::record::Header;
use kvstore::aof::record::Position;
use kvstore::aof::record::ResumePoint;
use kvstore::aof::recovery::RecoveryError;
use kvstore::store::effect::Seq;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A healthy log: its files, and all that it went through.
struct Healthy {
    files: BTreeMap<String, Vec<u8>>,
    /// The file that says how far the log has been synced: all of it.
    mark: BTreeMap<String, Vec<u8>>,
    history: History,
    last: Seq,
    /// The part of the log that the base needs.
    base_end: Seq,
}

/// The place of a record: its first byte, the byte after it, its seq.
type Place = (usize, usize, Seq);

impl Healthy {
    /// Three segments; the first of them is a base and the records after it, if there is one.
    fn new(with_base: bool) -> Healthy {
        let dir = memory_backed();
        let mut history = History::new(11);
        let disk = Box::new(Directory::open(dir.path()).expect("it is there"));
        let tail = ResumePoint { last: Position::default(), segment: None };
        history.opened();
        let log = open_log(disk, tail, Epoch(1), 1 << 20, NOW).expect("a new log");
        let mut base_end = Seq(0);
        for round in 0..3 {
            for _ in 0..4 {
                history.append(&log);
            }
            history.append_members(&log);
            if with_base && round == 0 {
                compact(&log, |base| history.walk(&log, base)).expect("a compaction");
                base_end = log.appended();
            } else if round < 2 {
                log.rotate().expect("a new segment");
            }
        }
        log.sync().expect("a disk in memory");
        let files = fs::read_dir(dir.path()).expect("it is there").flatten();
        let files = files.map(|file| {
            let name = file.file_name().into_string().expect("a name of ours");
            (name, fs::read(file.path()).expect("it is there"))
        });
        let (files, mark) = files.partition(|(name, _): &(String, _)| name.ends_with(".aof"));
        Healthy { files, mark, history, last: log.appended(), base_end }
    }

    /// Its files in a directory.
    fn write(&self) -> tempfile::TempDir {
        let dir = memory_backed();
        for (name, contents) in self.files.iter().chain(&self.mark) {
            fs::write(dir.path().join(name), contents).expect("a file");
        }
        dir
    }

    fn segments(&self) -> Vec<(&str, Vec<Place>)> {
        let mut all: Vec<_> = self
            .files
            .iter()
            .filter(|(name, _)| name.starts_with("log-"))
            .map(|(name, contents)| (name.as_str(), places(contents)))
            .collect();
        all.sort_by_key(|(_, places)| places[0].2);
        all
    }

    fn base(&self) -> &str {
        self.files.keys().find(|name| name.starts_with("base-")).expect("a base")
    }

    fn last_segment(&self) -> (&str, Vec<Place>) {
        self.segments().pop().expect("there are segments")
    }

    /// Damages a file in a directory that is healthy otherwise, judges what recovery says, and heals the
    /// directory. `gone` is the record that is not whole any more.
    fn damage(&self, dir: &Path, name: &str, contents: &[u8], gone: Option<Place>, context: &str) {
        fs::write(dir.join(name), contents).expect("a file");
        self.judge(dir, name, contents.len(), gone, context);
        fs::write(dir.join(name), &self.files[name]).expect("a file");
        let _ = fs::remove_dir_all(dir.join("quarantine"));
    }

    fn judge(&self, dir: &Path, name: &str, len: usize, gone: Option<Place>, context: &str) {
        let (recovered, state) = match recover(dir) {
            Ok(found) => found,
            Err(error) => return self.check_refusal(&error, name, gone, context),
        };
        assert!(
            self.mark.is_empty(),
            "{context}: cut off though the mark proves that it was there"
        );
        let torn = recovered.torn.as_ref().unwrap_or_else(|| panic!("{context}: unseen"));
        let last_segment = self.last_segment().0;
        assert_eq!(name, last_segment, "{context}: cut off though segments follow");
        let (start, end, seq) = gone.expect("a segment is made of records");
        assert!(len <= end, "{context}: cut off though records follow");
        assert_eq!(torn.damage.offset, start as u64, "{context}: {:?}", torn.damage);
        assert_eq!(recovered.end.last.seq.0 + 1, seq.0, "{context}: too much or too little");
        assert_eq!(&state, &self.history.states[seq.0 as usize - 1], "{context}: a wrong state");
        cleanup::clean_up(dir, &recovered).unwrap_or_else(|error| panic!("{context}: {error}"));
        let (again, same) = recover(dir).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!((again.end.last, same), (recovered.end.last, state), "{context}, again");
        assert!(again.torn.is_none(), "{context}, again: {:?}", again.torn);
        let saved = fs::read_dir(dir.join("quarantine")).expect("a quarantine").flatten();
        let saved: Vec<_> = saved.map(|file| fs::read(file.path()).expect("a file")).collect();
        assert_eq!(saved.len(), 1, "{context}: in the quarantine");
        assert_eq!(saved[0].len() as u64, torn.len, "{context}: in the quarantine");
    }

    /// Damages a file so that record `seq` is missing before those that come after it.
    fn lose(&self, dir: &Path, name: &str, contents: &[u8], seq: Seq, context: &str) {
        fs::write(dir.join(name), contents).expect("a file");
        match recover(dir) {
            Err(RecoveryError::Corrupt { seq: named, .. }) => assert_eq!(named, seq, "{context}"),
            Err(error) => panic!("{context}: {error}"),
            Ok((recovered, _)) => panic!("{context}: unseen, {:?}", recovered.end),
        }
        fs::write(dir.join(name), &self.files[name]).expect("a file");
    }

    /// Cuts the last file off in front of record `seq`: only the mark tells that there was more.
    fn end_early(&self, dir: &Path, name: &str, contents: &[u8], seq: Seq, context: &str) {
        fs::write(dir.join(name), contents).expect("a file");
        if !self.mark.is_empty() {
            let error = recover(dir).expect_err(context);
            let RecoveryError::Lost { path, last, .. } = &error else {
                panic!("{context}: {error}");
            };
            assert_eq!((path, last.0 + 1), (&dir.join(name), seq.0), "{context}: {error}");
            fs::write(dir.join(name), &self.files[name]).expect("a file");
            return;
        }
        let (recovered, state) = recover(dir).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(recovered.end.last.seq.0 + 1, seq.0, "{context}");
        assert_eq!(&state, &self.history.states[seq.0 as usize - 1], "{context}");
        assert!(recovered.torn.is_none(), "{context}: {:?}", recovered.torn);
        fs::write(dir.join(name), &self.files[name]).expect("a file");
    }

    /// A refusal must name the damaged file, the byte at which the bad record begins, and its seq.
    fn check_refusal(&self, error: &RecoveryError, name: &str, gone: Option<Place>, context: &str) {
        let RecoveryError::Corrupt { path, offset, seq, .. } = error else {
            panic!("{context}: {error}");
        };
        assert_eq!(path.file_name(), Some(name.as_ref()), "{context}: {error}");
        if let Some((start, _, expected)) = gone {
            assert_eq!((*offset, *seq), (start as u64, expected), "{context}: {error}");
        } else {
            assert!(*offset <= self.files[name].len() as u64, "{context}: {error}");
        }
    }
}

/// The records of a healthy file.
fn places(contents: &[u8]) -> Vec<Place> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < contents.len() {
        let (header, line_len) = Header::parse(&contents[at..]).expect("a healthy file");
        let end = at + line_len + header.len as usize;
        all.push((at, end, header.seq));
        at = end;
    }
    all
}

fn place_of(byte: usize, places: &[Place]) -> Place {
    *places.iter().find(|(_, end, _)| byte < *end).expect("a byte of a record")
}

/// Without a base, with one, and without the mark, which may be missing.
fn all() -> [Healthy; 3] {
    let without_mark = Healthy { mark: BTreeMap::new(), ..Healthy::new(false) };
    [Healthy::new(false), Healthy::new(true), without_mark]
}

#[test]
fn the_healthy_log_is_read_whole() {
    for healthy in all() {
        let dir = healthy.write();
        let (recovered, state) = recover(dir.path()).expect("a healthy log");
        assert_eq!((recovered.end.last.seq, &state), (healthy.last, healthy.history.now()));
        assert!(recovered.torn.is_none() && healthy.segments().len() >= 2);
        assert_eq!(recovered.outline.members(), healthy.history.members.last());
        let names_members =
            |file: &Vec<u8>| file.windows(11).any(|bytes| bytes == b"\r\n#members ");
        assert!(healthy.files.values().all(names_members), "each file has a record of members");
        let is_base = |name: &&String| name.starts_with("base-");
        assert_eq!(healthy.files.keys().filter(is_base).count(), recovered.base.iter().len());
        let several =
            |record: &[u8]| record.windows(9).any(|word| word == b"$5\r\nMULTI".as_slice());
        assert!(healthy.files.values().any(|file| several(file)), "a record of several effects");
    }
}

#[test]
fn every_flipped_bit_of_a_segment_shows() {
    for healthy in all() {
        let dir = healthy.write();
        for (name, places) in healthy.segments() {
            for bit in 0..healthy.files[name].len() * 8 {
                let mut contents = healthy.files[name].clone();
                contents[bit / 8] ^= 1 << (bit % 8);
                let gone = place_of(bit / 8, &places);
                let context = format!("{name}, bit {bit}, {gone:?}");
                healthy.damage(dir.path(), name, &contents, Some(gone), &context);
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_a_base_is_refused() {
    let healthy = Healthy::new(true);
    let dir = healthy.write();
    let name = healthy.base();
    for bit in 0..healthy.files[name].len() * 8 {
        let mut contents = healthy.files[name].clone();
        contents[bit / 8] ^= 1 << (bit % 8);
        healthy.damage(dir.path(), name, &contents, None, &format!("{name}, bit {bit}"));
    }
}

/// The mark only helps to judge a damage: in a healthy log, nothing depends on it.
#[test]
fn a_damaged_mark_harms_nothing() {
    let healthy = Healthy::new(true);
    let dir = healthy.write();
    let (name, mark) = healthy.mark.first_key_value().expect("a mark");
    let flipped = (0..mark.len() * 8).map(|bit| {
        let mut contents = mark.clone();
        contents[bit / 8] ^= 1 << (bit % 8);
        contents
    });
    let cut = (0..mark.len()).map(|len| mark[..len].to_vec());
    for contents in flipped.chain(cut) {
        fs::write(dir.path().join(name), &contents).expect("a file");
        let (recovered, state) = recover(dir.path()).expect("a healthy log");
        assert_eq!((recovered.end.last.seq, &state), (healthy.last, healthy.history.now()));
    }
}

#[test]
fn a_base_cut_off_anywhere_is_refused() {
    let healthy = Healthy::new(true);
    let dir = healthy.write();
    let name = healthy.base();
    for len in 0..healthy.files[name].len() {
        let contents = &healthy.files[name][..len];
        healthy.damage(dir.path(), name, contents, None, &format!("{name}, {len} bytes"));
    }
}

#[test]
fn a_segment_cut_off_anywhere_shows() {
    all().iter().for_each(cut_segments_everywhere);
    // The last segment is now one that the base cannot do without.
    let mut healthy = Healthy::new(true);
    let last = healthy.last_segment().0.to_owned();
    healthy.files.remove(&last);
    assert!(healthy.last_segment().1[0].2 < healthy.base_end);
    cut_segments_everywhere(&healthy);
}

fn cut_segments_everywhere(healthy: &Healthy) {
    let dir = healthy.write();
    let (last, _) = healthy.last_segment();
    for (name, places) in healthy.segments() {
        for len in 0..healthy.files[name].len() {
            let place @ (start, _, seq) = place_of(len, &places);
            let contents = &healthy.files[name][..len];
            let context = format!("{name}, {len} bytes, {place:?}");
            if seq <= healthy.base_end || (name != last && len == start) {
                healthy.lose(dir.path(), name, contents, seq, &context);
            } else if len == start {
                healthy.end_early(dir.path(), name, contents, seq, &context);
            } else {
                healthy.damage(dir.path(), name, contents, Some(place), &context);
            }
        }
    }
}

#[test]
fn a_missing_file_is_refused() {
    for healthy in all() {
        for name in healthy.files.keys().filter(|name| *name != healthy.last_segment().0) {
            let dir = healthy.write();
            fs::remove_file(dir.path().join(name)).expect("it is there");
            let error = recover(dir.path()).expect_err(name);
            assert!(matches!(error, RecoveryError::Corrupt { .. }), "{name}: {error}");
        }
    }
}

#[test]
fn a_missing_last_segment_is_refused_if_the_mark_proves_it() {
    for healthy in all().iter().filter(|healthy| !healthy.mark.is_empty()) {
        let (name, places) = healthy.last_segment();
        let dir = healthy.write();
        fs::remove_file(dir.path().join(name)).expect("it is there");
        match recover(dir.path()).expect_err(name) {
            RecoveryError::Lost { last, synced, .. } => {
                assert_eq!((last.0 + 1, synced), (places[0].2.0, healthy.last));
            }
            error => panic!("{name}: {error}"),
        }
    }
}

/// A header that announces more than there is, or more than there can be, must cost nothing.
#[test]
fn an_announced_length_is_not_trusted() {
    let healthy = Healthy::new(true);
    let dir = healthy.write();
    // Room for the test itself, and not for what the headers announce.
    let limit = Rlimit { current: Some(4 << 30), maximum: getrlimit(Resource::As).maximum };
    setrlimit(Resource::As, limit).expect("a lower limit");
    let of_segments = healthy.segments().into_iter().map(|(name, places)| (name, places[0].0));
    let first_record = healthy.files[healthy.base()].windows(4).position(|bytes| bytes == b"\n#1 ");
    let of_base = (healthy.base(), first_record.expect("a record") + 1);
    for (name, at) in of_segments.chain([of_base]) {
        let (before, record) = healthy.files[name].split_at(at);
        let (header, line_len) = Header::parse(record).expect("a record");
        let line = String::from_utf8(record[..line_len].to_vec()).expect("a header");
        for len in [1 << 33, 1 << 40, 1 << 62, u64::MAX - 200, u64::MAX - 1, u64::MAX] {
            let words: Vec<&str> = line.split(' ').collect();
            let long = format!("{} {} {} {len} {}", words[0], words[1], words[2], words[4]);
            let contents = [before, long.as_bytes(), &record[line_len..]].concat();
            let gone = (at, 0, header.seq);
            let context = format!("{name}, a record of {len} bytes");
            healthy.damage(dir.path(), name, &contents, Some(gone), &context);
        }
    }
}
