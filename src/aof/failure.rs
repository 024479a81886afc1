//! What can go wrong with a log while it runs.

/// Why the log takes no writes, or could not make one safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogError {
    /// Writing failed; it is being tried again.
    Write(String),
    /// Syncing failed; only a restart helps.
    Sync(String),
}

impl std::fmt::Display for LogError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LogError::Write(error) => write!(f, "cannot write the log: {error}; trying again"),
            LogError::Sync(error) => write!(
                f,
                "cannot sync the log: {error}; what the disk holds is unknown until a restart"
            ),
        }
    }
}
