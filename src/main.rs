//! The program: reads the arguments, starts logging, dispatches.

use kvstore::admin::log_level;
use kvstore::cli;
use kvstore::clock::UnixMillis;
use kvstore::config;
use kvstore::config::Config;
use kvstore::config::Id;
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
        print(&format!("{}{}", cli::OVERVIEW, config::help()));
        return Ok(ExitCode::SUCCESS);
    }
    if has("--version") || has("-V") {
        print(&format!("kvstore {}\n", env!("CARGO_PKG_VERSION")));
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
        // Connections that did not end in time have threads that did not either; do not wait for them.
        std::process::exit(0);
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints to standard output; a reader that has left (`kvstore --help | head -1`) is no error.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// A tool's log is for whoever waits for it: the progress of reading.
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
            let name = thread.name().unwrap_or("-").to_string();
            let time = UnixMillis::now().utc();
            writeln!(out, "{time} {:<5} [{name}] {}", record.level(), record.args())
        })
        .init();
    // The logger passes everything on; `loglevel` is this, and CONFIG SET changes it.
    log::set_max_level(log_level(config.choice(Id::Loglevel)));
}
