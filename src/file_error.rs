//! Errors of files, in words for an operator: which path, what is wrong, what to do.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

/// The inside of an error that says its path already, so that it is not said twice.
#[derive(Debug)]
struct Named(String);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Named {}

/// Adds the path, and what to do, to an error that does not say them yet. Its kind stays.
pub fn named(path: &Path) -> impl Fn(io::Error) -> io::Error + Copy + '_ {
    move |error| match is_named(&error) {
        true => error,
        false => io::Error::new(error.kind(), Named(describe(path, &error))),
    }
}

/// An error that is about this path, in these words.
pub fn about(path: &Path, what: impl fmt::Display) -> io::Error {
    io::Error::other(Named(format!("{}: {what}", path.display())))
}

/// The path, what is wrong, and what to do.
pub fn describe(path: &Path, error: &io::Error) -> String {
    if is_named(error) {
        return error.to_string();
    }
    let (path, what) = (path.display(), plain(error));
    match advice(error.kind()) {
        Some(advice) => format!("{path}: {what}; {advice}"),
        None => format!("{path}: {what}"),
    }
}

fn is_named(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Named>())
}

fn advice(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::IsADirectory => Some("a file should be there: move it away"),
        ErrorKind::NotADirectory => Some("a directory should be there: move it away"),
        ErrorKind::PermissionDenied => Some("give the user that runs kvstore permission for it"),
        ErrorKind::InvalidData => Some("it must be text in UTF-8: correct it, or restore a backup"),
        _ => None,
    }
}

/// What the system says, without Rust's "(os error 2)" at its end.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(message, _)| message).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_path_stays_and_is_said_once() {
        let error = named(Path::new("d/node"))(ErrorKind::IsADirectory.into());
        let error = named(Path::new("d"))(error);
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
        assert_eq!(
            describe(Path::new("d"), &error),
            "d/node: is a directory; a file should be there: move it away"
        );
    }
}
