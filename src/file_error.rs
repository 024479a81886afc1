//! Errors of files, in words for an operator: which path, what is wrong, what to do.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

/// The inside of an error whose text has its path already, so that the path is added only once.
#[derive(Debug)]
struct Named(String);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Named {}

/// None for the error that a file is missing.
pub fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Adds the path and the advice to an error that lacks them. Its kind stays.
pub fn named(path: &Path) -> impl Fn(io::Error) -> io::Error + Copy + '_ {
    move |error| {
        if is_named(&error) {
            return error;
        }
        io::Error::new(error.kind(), Named(describe(path, &error)))
    }
}

/// An error about this path, in these words.
pub fn about(path: &Path, what: impl fmt::Display) -> io::Error {
    io::Error::other(Named(format!("{}: {what}", path.display())))
}

/// The path, what is wrong, and what to do.
pub fn describe(path: &Path, error: &io::Error) -> String {
    if is_named(error) {
        return error.to_string();
    }
    let advice = match error.kind() {
        ErrorKind::IsADirectory => "; a file should be there: move it away",
        ErrorKind::NotADirectory => "; a directory should be there: move it away",
        ErrorKind::PermissionDenied => "; give the user that runs kvstore permission for it",
        ErrorKind::InvalidData => "; it must be text in UTF-8: correct it, or restore a backup",
        _ => "",
    };
    format!("{}: {}{advice}", path.display(), plain(error))
}

fn is_named(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Named>())
}

/// The system's message, without Rust's "(os error 2)" at its end.
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
