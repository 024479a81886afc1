//! Commands about the server and its connections: AUTH, HELLO, CLIENT, CONFIG, COMMAND, HELP, DEBUG.

pub(crate) mod builtin;
pub(crate) mod client_command;
pub(crate) mod command_command;
pub(crate) mod connection;
pub(crate) mod help;
pub(crate) mod key_specs;
pub(crate) mod log_command;
pub(crate) mod server_command;

pub use server_command::log_level;
