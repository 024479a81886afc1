//! The manifest of Redis 7's `appendonlydir`: which files make the append-only file, in which order.
//!
//! ```text
//! file appendonly.aof.1.base.rdb seq 1 type b
//! file appendonly.aof.1.incr.aof seq 1 type i
//! ```
//!
//! There is at most one base (`b`), and it comes first. History (`h`) is about to be deleted.

use super::super::{Error, at};
use crate::config::split_words;
use std::fs;
use std::path::{Path, PathBuf};

/// The files that an argument stands for: itself, or those that the manifest in it names.
pub(super) fn files(source: &Path) -> Result<Vec<PathBuf>, Error> {
    if !source.is_dir() {
        return Ok(vec![source.to_path_buf()]);
    }
    let manifest = manifest_in(source)?;
    let text = fs::read_to_string(&manifest).map_err(at(&manifest))?;
    let names = names(&text).map_err(|what| failed(&manifest, &what))?;
    Ok(names.iter().map(|name| source.join(name)).collect())
}

fn failed(path: &Path, what: &str) -> Error {
    Error::Failed(format!("{}: {what}", path.display()))
}

fn manifest_in(dir: &Path) -> Result<PathBuf, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(at(dir))? {
        let path = entry.map_err(at(dir))?.path();
        if path.extension().is_some_and(|ending| ending == "manifest") {
            found.push(path);
        }
    }
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => Err(failed(dir, "it has several manifests; name the files one by one")),
        (None, _) => {
            let text =
                "no manifest is in it; name dump.rdb, or appendonlydir, or the files one by one";
            Err(failed(dir, text))
        }
    }
}

/// The names of the files in a manifest, in the order in which they are to be read.
fn names(manifest: &str) -> Result<Vec<String>, String> {
    let (mut names, mut last_seq) = (Vec::new(), 0);
    let lines = manifest.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let unknown = || format!("a line that is not understood: {line}");
        let words = split_words(line)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let &["file", name, "seq", seq, "type", of_type] = &words[..] else {
            return Err(unknown());
        };
        let seq: u64 = seq.parse().map_err(|_| unknown())?;
        let is_next = match of_type {
            "h" => continue,
            "b" => names.is_empty(),
            "i" => seq > last_seq,
            _ => return Err(unknown()),
        };
        if !is_next || name.contains('/') {
            return Err(format!("a line out of order, or a file elsewhere: {line}"));
        }
        last_seq = if of_type == "i" { seq } else { 0 };
        names.push(name.to_string());
    }
    if names.is_empty() { Err("it names no file".into()) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_first_then_what_came_after() {
        let text = "file a.3.base.rdb seq 3 type b\nfile a.1.incr.aof seq 1 type h\n\
                    file \"a b.7.incr.aof\" seq 7 type i\nfile a.8.incr.aof seq 8 type i\n";
        let expected = ["a.3.base.rdb", "a b.7.incr.aof", "a.8.incr.aof"];
        assert_eq!(names(text).expect("a manifest"), expected);
        assert_eq!(names("# none\n\nfile a seq 1 type i").expect("a manifest"), ["a"]);
    }

    #[test]
    fn what_redis_would_not_load_is_refused() {
        for text in [
            "",
            "file a seq 1",
            "file a seq x type i",
            "file a seq 1 type z",
            "file ../a seq 1 type i",
            "file a seq 2 type i\nfile b seq 1 type i",
            "file a seq 1 type i\nfile b seq 1 type b",
        ] {
            assert!(names(text).is_err(), "{text:?}");
        }
    }
}
