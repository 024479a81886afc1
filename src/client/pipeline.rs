//! Several commands in one round trip.
//!
//! A pipeline is not a transaction: commands of other clients may come in between. After a failure each command is
//! judged alone, so a later one may be executed although an earlier one is in doubt.

use super::command::Command;
use super::convert::FromValue;
use super::error::Error;
use super::executor::Executor;
use super::reply::Value;

/// Commands that will be sent together.
#[derive(Debug)]
pub struct Pipeline<'c> {
    executor: &'c Executor,
    commands: Result<Vec<Command>, Error>,
}

impl<'c> Pipeline<'c> {
    pub(super) fn new(executor: &'c Executor) -> Pipeline<'c> {
        Pipeline { executor, commands: Ok(vec![]) }
    }

    /// Adds any command. An invalid one is reported when the pipeline runs.
    pub fn command(mut self, args: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        if let Ok(commands) = &mut self.commands {
            match Command::new(args) {
                Ok(command) => commands.push(command),
                Err(error) => self.commands = Err(error),
            }
        }
        self
    }

    /// Adds GET.
    pub fn get(self, key: impl AsRef<[u8]>) -> Self {
        self.command([b"GET", key.as_ref()])
    }

    /// Adds SET.
    pub fn set(self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.command([b"SET", key.as_ref(), value.as_ref()])
    }

    /// Adds INCR.
    pub fn incr(self, key: impl AsRef<[u8]>) -> Self {
        self.command([b"INCR", key.as_ref()])
    }

    /// Adds DEL.
    pub fn del(self, key: impl AsRef<[u8]>) -> Self {
        self.command([b"DEL", key.as_ref()])
    }

    /// Sends them. Returns all replies as a tuple or a vector, or the first error in their order. After an error the
    /// other commands may have been executed: [`Pipeline::run_each`] keeps their replies.
    pub fn run<T: FromValue>(self) -> Result<T, Error> {
        let values: Result<Vec<Value>, Error> = self.run_each()?.into_iter().collect();
        T::from_value(Value::Array(values?))
    }

    /// Sends them. Returns one result for each command. Fails as a whole only before anything is sent.
    pub fn run_each(self) -> Result<Vec<Result<Value, Error>>, Error> {
        let results = self.executor.execute_all(&self.commands?, self.executor.deadline());
        Ok(results.into_iter().map(|result| Ok(result?.value)).collect())
    }
}
