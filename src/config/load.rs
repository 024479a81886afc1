//! Reading the configuration at start: flags, environment, file.
//!
//! Each source becomes a list of assignments. The lists are carried out from the weakest source to the
//! strongest, which is all there is to precedence.

use std::fs;
use std::path::{Path, PathBuf};

use super::quoting::split_words;
use super::{Config, ConfigError, Id, Kind, Setting, Value, find, nearest};
use crate::file_error::describe;

/// A value that was given to a setting.
pub(super) struct Assignment {
    /// The place, for errors: `--port`, `KVSTORE_PORT`, `kv.conf:3: port`.
    at: String,
    pub(super) setting: &'static Setting,
    value: String,
}

/// The content of the flags or the environment.
#[derive(Default)]
struct Given {
    assignments: Vec<Assignment>,
    /// The configuration file that it names.
    file: Option<PathBuf>,
}

impl Given {
    /// Adds a value, or says why not. The name `config` is the configuration file's.
    fn take(
        &mut self,
        spell: Spelling,
        name: &str,
        value: Option<&str>,
    ) -> Result<(), ConfigError> {
        let at = spell(name);
        let setting = find(name);
        if setting.is_none() && name != "config" {
            return Err(unknown(spell, &at, name));
        }
        let Some(value) = value else {
            return Err(ConfigError::at(at, "a value is missing (kvstore --help)"));
        };
        match setting {
            Some(setting) => {
                self.assignments.push(Assignment { at, setting, value: value.to_string() });
            }
            None => self.file = Some(value.into()),
        }
        Ok(())
    }
}

/// Writes a setting's name as a source of values does.
type Spelling = fn(&str) -> String;

const FLAG: Spelling = |name| format!("--{name}");
const VARIABLE: Spelling =
    |name| format!("KVSTORE_{}", name.to_ascii_uppercase().replace('-', "_"));
const IN_FILE: Spelling = str::to_string;

/// The error for a name that no setting has.
fn unknown(spell: Spelling, at: &str, name: &str) -> ConfigError {
    let hint = nearest(name).map(|known| format!("; did you mean {}?", spell(known)));
    let hint = hint.unwrap_or_default();
    ConfigError::at(at, format!("no such option{hint} (kvstore --help lists them)"))
}

impl Config {
    /// Reads the configuration from the arguments after `serve`, the environment, and the file that one
    /// of them names.
    pub fn load(
        args: &[String],
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        let flags = read_flags(args)?;
        let environment = read_environment(env, &mut config.warnings);
        if let Some(path) = flags.file.or(environment.file) {
            let text = read("configuration file", &path)?;
            config.assign_all(parse_file(&text, &path)?)?;
            // CONFIG REWRITE must replace the file, not a link to it.
            config.file = Some(fs::canonicalize(&path).unwrap_or(path));
        }
        config.assign_all(environment.assignments)?;
        config.assign_all(flags.assignments)?;
        config.read_password()?;
        config.validate()?;
        Ok(config)
    }

    /// A configuration with these settings and defaults for the rest.
    #[cfg(test)]
    pub fn for_tests(settings: &[(&str, &str)]) -> Config {
        let args: Vec<_> =
            settings.iter().map(|(name, value)| format!("--{name}={value}")).collect();
        Config::load(&args, std::iter::empty()).expect("a test gives valid settings")
    }

    /// Carries out assignments in order, so that the last one to a setting wins.
    pub(super) fn assign_all(&self, assignments: Vec<Assignment>) -> Result<(), ConfigError> {
        for Assignment { at, setting, value } in assignments {
            let value = setting.kind.parse(&value).map_err(|problem| {
                ConfigError::at(at, problem + " (kvstore --help explains it)")
            })?;
            self.change(setting.id, value);
        }
        Ok(())
    }

    /// Takes the password from requirepass-file, unless requirepass gives one.
    fn read_password(&mut self) -> Result<(), ConfigError> {
        let path = self.text(Id::RequirepassFile);
        if path.is_empty() || !self.text(Id::Requirepass).is_empty() {
            return Ok(());
        }
        let text = read("password file", Path::new(&path))?;
        let password = text.lines().next().unwrap_or_default();
        if password.is_empty() {
            let problem = "its first line, which should hold the password, is empty; write it \
                           there, or do not give requirepass-file";
            return Err(ConfigError::at(path, problem));
        }
        self.change(Id::Requirepass, Value::Text(password.to_string()));
        self.password_from_file = Some(password.to_string());
        Ok(())
    }
}

/// Reads `--name value`, `--name=value` and, for yes/no, a bare `--name`. Text that looks like the next
/// flag is not taken for a value.
fn read_flags(args: &[String]) -> Result<Given, ConfigError> {
    let mut given = Given::default();
    let mut rest = args.iter().enumerate().peekable();
    while let Some((index, arg)) = rest.next() {
        let Some(flag) = arg.strip_prefix("--") else {
            // The argument is not shown: it may be the end of a password that has blanks.
            let problem = "options begin with --, and a value that has blanks needs quotes (kvstore \
                           --help lists the options)";
            return Err(ConfigError::at(format!("argument {}", index + 1), problem));
        };
        if let Some((name, value)) = flag.split_once('=') {
            given.take(FLAG, name, Some(value))?;
            continue;
        }
        let bare_means_yes = find(flag).is_some_and(|row| matches!(row.kind, Kind::YesNo));
        let value = rest.next_if(|(_, next)| match next.as_str() {
            "yes" | "no" => true,
            next => !bare_means_yes && !next.starts_with("--"),
        });
        let value = value.map(|(_, value)| value.as_str());
        given.take(FLAG, flag, value.or(bare_means_yes.then_some("yes")))?;
    }
    Ok(given)
}

/// Reads the variables that begin with `KVSTORE_`. An unknown name is not an error, because others set such
/// variables too (Kubernetes does for a service called kvstore). One that looks like a slip is worth a
/// warning.
fn read_environment(
    env: impl Iterator<Item = (String, String)>,
    warnings: &mut Vec<String>,
) -> Given {
    let mut given = Given::default();
    for (variable, value) in env {
        let Some(name) = variable.strip_prefix("KVSTORE_") else { continue };
        let name = name.to_ascii_lowercase().replace('_', "-");
        if let Err(unknown) = given.take(VARIABLE, &name, Some(&value))
            // Kubernetes's are no slips, near as they may be to metrics-port.
            && nearest(&name).is_some()
            && !name.starts_with("service-")
        {
            warnings.push(format!("ignored {unknown}"));
        }
    }
    given
}

/// Reads a configuration file's text. `path` is for the errors.
pub(super) fn parse_file(text: &str, path: &Path) -> Result<Vec<Assignment>, ConfigError> {
    let lines = text.lines().enumerate();
    lines.filter_map(|(index, line)| parse_line(line, path, index + 1).transpose()).collect()
}

/// Reads one line: a name and a value, or nothing if it is blank or a comment.
pub(super) fn parse_line(
    text: &str,
    path: &Path,
    line: usize,
) -> Result<Option<Assignment>, ConfigError> {
    let at = format!("{}:{line}", path.display());
    if text.trim_ascii_start().starts_with('#') {
        return Ok(None);
    }
    let words = split_words(text).map_err(|problem| ConfigError::at(&at, problem))?;
    let Some((name, values)) = words.split_first() else { return Ok(None) };
    let at = format!("{at}: {name}");
    let Some(setting) = find(name) else { return Err(unknown(IN_FILE, &at, name)) };
    let value = match values {
        [value] => value.clone(),
        [_, ..] if setting.kind.takes_words() => values.join(" "),
        [] => return Err(ConfigError::at(at, "a value is missing; \"\" is the empty one")),
        _ => {
            let problem = "several values; quote one that has blanks, and give a comment its own \
                           line";
            return Err(ConfigError::at(at, problem));
        }
    };
    Ok(Some(Assignment { at, setting, value }))
}

fn read(what: &str, path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path)
        .map_err(|error| ConfigError::new(format!("cannot read {what} {}", describe(path, &error))))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Loads from flags and variables as one would type them: `--port 1`, `KVSTORE_PORT=1`.
    fn load(flags: &[&str], variables: &[&str]) -> Result<Config, ConfigError> {
        let args: Vec<String> = flags.iter().map(|flag| flag.to_string()).collect();
        let split = |v: &&str| v.split_once('=').map(|(k, v)| (k.to_string(), v.to_string()));
        Config::load(&args, variables.iter().filter_map(split))
    }

    fn error(flags: &[&str], variables: &[&str]) -> String {
        load(flags, variables).expect_err("should be refused").to_string()
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("to write it");
        file
    }

    fn name(file: &tempfile::NamedTempFile) -> &str {
        file.path().to_str().expect("a readable path")
    }

    /// The configuration that a file of this text gives.
    fn from_file(text: &str) -> Result<Config, ConfigError> {
        load(&["--config", name(&file(text))], &[])
    }

    /// The error for a file of this text; its path is shortened to FILE.
    fn file_error(text: &str) -> String {
        let file = file(text);
        error(&["--config", name(&file)], &[]).replace(name(&file), "FILE")
    }

    #[test]
    fn flags_win_over_environment_over_file_over_default() -> Result<(), ConfigError> {
        let file = file("port 1\nhz 1\ntimeout 1\n");
        let flags = ["--config", name(&file), "--port", "3"];
        let config = load(&flags, &["KVSTORE_PORT=2", "KVSTORE_HZ=2"])?;
        assert_eq!(config.int(Id::Port), 3, "the flag");
        assert_eq!(config.int(Id::Hz), 2, "the environment");
        assert_eq!(config.int(Id::Timeout), 1, "the file");
        assert_eq!(config.int(Id::TcpBacklog), 511, "the default");
        Ok(())
    }

    #[test]
    fn the_flag_config_wins_over_the_variable() -> Result<(), ConfigError> {
        let (one, two) = (file("port 1"), file("port 2"));
        let variable = format!("KVSTORE_CONFIG={}", name(&two));
        assert_eq!(load(&[], &[&variable])?.int(Id::Port), 2);
        let flag = format!("--config={}", name(&one));
        assert_eq!(load(&[&flag], &[&variable])?.int(Id::Port), 1);
        Ok(())
    }

    #[test]
    fn flags_take_a_value_with_or_without_an_equals_sign() -> Result<(), ConfigError> {
        let config = load(&["--port", "1", "--requirepass=--a=b", "--hz=2", "--hz", "3"], &[])?;
        assert_eq!(config.int(Id::Port), 1);
        assert_eq!(config.text(Id::Requirepass), "--a=b");
        assert_eq!(config.int(Id::Hz), 3, "the last one wins");
        Ok(())
    }

    #[test]
    fn a_yes_no_flag_may_stand_alone() -> Result<(), ConfigError> {
        assert!(load(&["--no-password", "--port", "1"], &[])?.flag(Id::NoPassword));
        assert!(load(&["--no-password"], &[])?.flag(Id::NoPassword));
        assert!(!load(&["--no-password", "no"], &[])?.flag(Id::NoPassword));
        assert!(!load(&["--no-password=no"], &[])?.flag(Id::NoPassword));
        Ok(())
    }

    #[test]
    fn an_alias_works_everywhere() {
        let file = file("slave-read-only yes");
        let flags = ["--config", name(&file), "--slave-read-only", "yes"];
        assert!(load(&flags, &["KVSTORE_SLAVE_READ_ONLY=yes"]).is_ok());
    }

    #[test]
    fn flags_that_are_refused() {
        let missing = "--port: a value is missing (kvstore --help)";
        assert_eq!(error(&["--port"], &[]), missing);
        assert_eq!(error(&["--port", "--hz"], &[]), missing);
        assert_eq!(
            error(&["--prot=8080"], &[]),
            "--prot: no such option; did you mean --port? (kvstore --help lists them)"
        );
        assert_eq!(
            error(&["--cluster-enabled", "yes"], &[]),
            "--cluster-enabled: no such option (kvstore --help lists them)"
        );
        assert_eq!(
            error(&["--port", "65536"], &[]),
            "--port: argument must be between 0 and 65535 inclusive (kvstore --help explains it)"
        );
        let rest = error(&["--requirepass", "correct", "horse"], &[]);
        assert!(rest.starts_with("argument 3: options begin with --"), "{rest}");
        assert!(!rest.contains("horse"), "{rest}");
    }

    #[test]
    fn a_variable_with_a_bad_value_is_refused_and_an_unknown_one_is_not() -> Result<(), ConfigError>
    {
        let port = error(&[], &["KVSTORE_PORT=tcp://10.0.0.1:8080"]);
        assert!(port.starts_with("KVSTORE_PORT: argument couldn't be parsed"), "{port}");

        let foreign = [
            "PORT=x",
            "KVSTORE_SERVICE_HOST=x",
            "KVSTORE_SERVICE_PORT=x",
            "KVSTORE_PORT_8080_TCP=x",
        ];
        assert!(load(&[], &foreign)?.warnings().is_empty());
        let config = load(&[], &["KVSTORE_TCP_KEEPALIV=x"])?;
        assert_eq!(
            config.warnings(),
            ["ignored KVSTORE_TCP_KEEPALIV: no such option; did you mean KVSTORE_TCP_KEEPALIVE? \
              (kvstore --help lists them)"]
        );
        Ok(())
    }

    #[test]
    fn a_file_has_comments_quotes_and_values_of_several_words() -> Result<(), ConfigError> {
        let config = from_file(
            "# a comment\r\n\n  PORT 7000\r\n \t# another\nrequirepass \"a \\\"b\\\" \\x41\"\n\
             bind 127.0.0.1 ::1\nsave \"\"\n\
             client-output-buffer-limit normal 1 2 3\nclient-output-buffer-limit pubsub 4 5 6",
        )?;
        assert_eq!(config.int(Id::Port), 7000);
        assert_eq!(config.text(Id::Requirepass), "a \"b\" A");
        assert_eq!(config.text(Id::Bind), "127.0.0.1 ::1");
        let limits = config.text(Id::ClientOutputBufferLimit);
        assert_eq!(limits, "normal 1 2 3 slave 268435456 67108864 60 pubsub 4 5 6");
        Ok(())
    }

    #[test]
    fn a_file_is_refused_with_the_line() {
        assert_eq!(
            file_error("\nmaxclient 5"),
            "FILE:2: maxclient: no such option; did you mean maxclients? (kvstore --help lists \
             them)"
        );
        assert_eq!(
            file_error("hz 0"),
            "FILE:1: hz: argument must be between 1 and 500 inclusive (kvstore --help explains it)"
        );
        assert_eq!(file_error("port"), "FILE:1: port: a value is missing; \"\" is the empty one");
        assert_eq!(file_error("#\nport \"1"), "FILE:2: a quote that is not closed");
        assert_eq!(
            file_error("requirepass correct horse"),
            "FILE:1: requirepass: several values; quote one that has blanks, and give a comment \
             its own line"
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        assert_eq!(
            error(&["--config", "/no/such.conf"], &[]),
            "cannot read configuration file /no/such.conf: No such file or directory"
        );
        assert_eq!(
            error(&["--requirepass-file", "/no/such"], &[]),
            "cannot read password file /no/such: No such file or directory"
        );
    }

    #[test]
    fn the_password_is_the_first_line_of_its_file() -> Result<(), ConfigError> {
        let file = file("pass word \r\nsecond line\n");
        let config = load(&["--requirepass-file", name(&file)], &[])?;
        assert_eq!(config.text(Id::Requirepass), "pass word ");
        let config = load(&["--requirepass-file", name(&file)], &["KVSTORE_REQUIREPASS=x"])?;
        assert_eq!(config.text(Id::Requirepass), "x");
        Ok(())
    }

    #[test]
    fn an_empty_password_file_is_refused() {
        let file = file("\nsecret\n");
        let text = error(&["--requirepass-file", name(&file)], &[]);
        assert!(text.contains("is empty") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn other_machines_need_a_password_or_a_decision() {
        for address in ["0.0.0.0", "*", "::", "127.0.0.1 192.168.1.5", "::ffff:10.0.0.1"] {
            let text = error(&["--bind", address], &[]);
            assert!(text.contains("--requirepass-file"), "{text}");
            assert!(text.contains("--no-password"), "{text}");
            assert!(load(&["--bind", address, "--requirepass", "x"], &[]).is_ok(), "{address}");
            assert!(load(&["--bind", address, "--no-password"], &[]).is_ok(), "{address}");
        }
        for address in ["127.0.0.1", "127.8.8.8", "::1", "localhost", "::ffff:127.0.0.1"] {
            assert!(load(&["--bind", address], &[]).is_ok(), "{address}");
        }
    }
}
