//! The program: reads the arguments, starts logging, dispatches to a tool or the server.

use kvstore::admin::log_level;
use kvstore::cli;
use kvstore::clock::UnixMillis;
use kvstore::config::{self, Config, Id};
use kvstore::memory::arenas;
use kvstore::server;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kvstore: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<ExitCode, Box<dyn std::error::Error>> {
    if let Some(tool) = args.first().and_then(|name| cli::find(name)) {
        start_tool_logging();
        return Ok(tool.run(&args[1..]));
    }
    let has = |name: &str| args.iter().any(|arg| arg == name);
    if has("--help") || has("-h") {
        cli::print(&format!("{}{}", cli::OVERVIEW, config::help()));
        return Ok(ExitCode::SUCCESS);
    }
    if has("--version") || has("-V") {
        cli::print(&format!("kvstore {}\n", env!("CARGO_PKG_VERSION")));
        return Ok(ExitCode::SUCCESS);
    }
    let options = match args.first().map(String::as_str) {
        Some("serve") => &args[1..],
        Some(word) if !word.starts_with('-') => {
            return Err(format!("{word}: no such subcommand (kvstore --help)").into());
        }
        _ => args,
    };
    serve(options)
}

fn serve(options: &[String]) -> Result<ExitCode, Box<dyn std::error::Error>> {
    arenas::limit();
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let config = Config::load(options, env)?;
    start_logging(&config);
    let in_time = server::serve(config)?;
    if !in_time {
        // The threads of connections that did not end in time still run; do not wait for them.
        std::process::exit(0);
    }
    Ok(ExitCode::SUCCESS)
}

/// A tool logs for the person who waits for it: the bare message, such as the progress of reading.
fn start_tool_logging() {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Info)
        .format(|out, record| writeln!(out, "{}", record.args()))
        .init();
}

fn start_logging(config: &Config) {
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Trace)
        .format(|out, record| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("-");
            let time = UnixMillis::now().utc();
            writeln!(out, "{time} {:<5} [{name}] {}", record.level(), record.args())
        })
        .init();
    // The logger itself lets everything pass. This is `loglevel`, which CONFIG SET changes.
    log::set_max_level(log_level(config.choice(Id::Loglevel)));
}
