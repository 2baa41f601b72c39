//! `--config FILE`: the file's options become arguments before those that were given.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, Parser};

use super::{Cli, CliError, one_line};
use crate::file::{self, File, Given};
use crate::limits::HEADING;
use crate::site::SiteSettings;

/// An option by its long name, and the arguments that give it.
pub(super) type AsArguments = (String, Vec<OsString>);

/// Reads a configuration file: its options, each checked by itself, and its sites.
///
/// # Errors
/// One line that names the file and, for a mistake in it, the line.
pub(super) fn read(path: &Path) -> Result<(Vec<AsArguments>, Vec<SiteSettings>), String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("{} cannot be read: {error}; name another file with --config", path.display())
    })?;
    let read = || {
        let File { serve: options, limits, sites } =
            file::parse(&text).map_err(|error| error.to_string())?;
        let cli = Cli::command();
        let serve = cli.find_subcommand("serve").unwrap_or(&cli);
        let options = options.into_iter().map(|given| (given, false));
        let limits = limits.into_iter().map(|given| (given, true));
        let check = |(given, limit): (Given, bool)| {
            let arguments = as_arguments(serve, &given, limit)
                .map_err(|message| format!("line {}: {message}", given.line))?;
            Ok((given.name, arguments))
        };
        Ok((options.chain(limits).map(check).collect::<Result<_, String>>()?, sites))
    };
    read().map_err(|message: String| format!("{}: {message}", path.display()))
}

/// `arguments`, with the options of the file that they name, if they name one, in front of those
/// that were given: the options that the command line and the environment do not mention; and the
/// file's sites.
pub(super) fn merge(
    arguments: Vec<OsString>,
) -> Result<(Vec<OsString>, Vec<SiteSettings>), CliError> {
    // What is wrong with them is said afterwards.
    let seen = Cli::command().ignore_errors(true).try_get_matches_from(&arguments);
    let seen = seen.ok().and_then(|matches| matches.subcommand_matches("serve").cloned());
    let path = seen.as_ref().and_then(|seen| seen.get_one::<PathBuf>("config").cloned());
    let (Some(seen), Some(path)) = (seen, path) else { return Ok((arguments, Vec::new())) };
    let (options, sites) = read(&path).map_err(CliError::Usage)?;
    let added = options.into_iter().filter(|(name, _)| !is_given(&seen, name));
    let added: Vec<OsString> = added.flat_map(|(_, arguments)| arguments).collect();
    // Behind the program's name and the command.
    let (head, tail) = arguments.split_at(2.min(arguments.len()));
    Ok(([head, &added, tail].concat(), sites))
}

/// What gives an option of the file, which stands among the limits or not, on the command line.
///
/// # Errors
/// There is no such option, or clap does not take its values.
fn as_arguments(serve: &Command, given: &Given, limit: bool) -> Result<Vec<OsString>, String> {
    let name = &given.name;
    let known = |option: &&Arg| {
        let fits = !limit || option.get_help_heading() == Some(HEADING);
        // A file that names a file would have no end.
        fits && option.get_long() == Some(name) && option.get_id() != "config"
    };
    let option = serve.get_arguments().find(known).ok_or_else(|| {
        let what = if limit { "limit" } else { "option" };
        format!("{name} is no {what}; tagwire serve --help lists them")
    })?;
    let arguments: Vec<OsString> = if option.get_action().takes_values() {
        given.values.iter().map(|value| format!("--{name}={value}").into()).collect()
    } else {
        match &*given.values.concat() {
            "true" => vec![format!("--{name}").into()],
            "false" => Vec::new(),
            _ => return Err(format!("{name} is neither on nor off; use true or false")),
        }
    };
    let alone = ["tagwire".into(), "serve".into()].into_iter().chain(arguments.iter().cloned());
    match Cli::try_parse_from(alone) {
        // The others are elsewhere.
        Err(error) if error.kind() != ErrorKind::MissingRequiredArgument => Err(one_line(&error)),
        _ => Ok(arguments),
    }
}

/// Whether the command line or the environment says anything about an option. An empty variable
/// says nothing: manifests set them so.
fn is_given(seen: &ArgMatches, name: &str) -> bool {
    let id = name.replace('-', "_");
    match seen.value_source(&id) {
        Some(ValueSource::CommandLine) => true,
        Some(ValueSource::EnvVariable) => {
            let raw = seen.get_raw(&id).into_iter().flatten();
            raw.into_iter().any(|value| !value.is_empty())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tempfile::NamedTempFile;

    use super::super::{Command, parse, read_again};
    use super::*;
    use crate::limits::Limits;

    const TEXT: &str = "\
[serve]
interface = \"m0\"
vlan = 123
address = [\"10.0.0.5/24\", \"10.0.1.5/24\"]
slaac = true
fast-open = false
port = 8080
max-fields = 50

[limits]
max-head = \"8k\"
idle-timeout = 30

[[site]]
www-root = \"/a\"

[[site]]
hosts = [\"b\"]
www-root = \"/b\"
";

    fn file(text: &str) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn serve(text: &str, more: &[&str]) -> Result<Box<crate::config::Config>, String> {
        let file = file(text);
        let line = ["tagwire", "serve", "--config", file.path().to_str().unwrap()];
        match parse(line.iter().chain(more)) {
            Ok(Command::Serve(config)) => Ok(config),
            Err(CliError::Usage(line)) => Err(line),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_file_says_what_nobody_else_does() {
        let config = serve(TEXT, &[]).unwrap();
        assert_eq!((&*config.interface, config.port, config.addresses.len()), ("m0", 8080, 2));
        assert!(config.slaac && !config.fast_open);
        let Limits { max_head, max_fields, idle_timeout, .. } = config.limits;
        assert_eq!((max_head, max_fields, idle_timeout.as_secs()), (8192, 50, 30));
        let roots: Vec<_> =
            config.sites.iter().map(|site| site.www_root.to_str().unwrap()).collect();
        assert_eq!(roots, ["/a", "/b"]);

        let more = ["--port=81", "--address=10.0.2.5/24", "--www-root", "/c", "--max-head=9000"];
        let config = serve(TEXT, &more).unwrap();
        assert_eq!((config.port, config.addresses.len()), (81, 1));
        assert_eq!(config.limits.max_head, 9000);
        assert_eq!(config.sites[0].www_root.to_str(), Some("/c"));
        assert_eq!(config.sites.len(), 2);
    }

    #[test]
    fn what_is_usual_for_sites_is_said_once() {
        use crate::encoding::Coding::{Brotli, Gzip, Zstd};
        let text = "[serve]\ninterface = \"m0\"\nslaac = true\ncompress = \"br,gzip\"\n\
                    [[site]]\nwww-root = \"/a\"\n[[site]]\nhosts = [\"b\"]\nwww-root = \"/b\"\n\
                    compress = \"off\"\ncompress-min-size = \"4k\"\n";
        let both = |more: &[&str]| {
            let config = serve(text, more).unwrap();
            let of = |site: &SiteSettings| (site.compress.clone().unwrap(), site.compress_min_size);
            [of(&config.sites[0]), of(&config.sites[1])]
        };
        let off = ([].into(), Some(4096));
        assert_eq!(both(&[]), [([Brotli, Gzip].into(), Some(1024)), off.clone()]);
        let more = ["--compress", "zstd", "--compress-min-size", "100"];
        assert_eq!(both(&more), [([Zstd].into(), Some(100)), off]);
    }

    #[test]
    fn mistakes_name_file_and_line() {
        for (line, with, part) in [
            (7, "port = 0", "is no port"),
            (7, "prot = 80", "prot is no option"),
            (7, "config = \"x\"", "config is no option"),
            (5, "slaac = \"often\"", "use true or false"),
            (3, "vlan = 5000", "is no VLAN ID"),
            (7, "port = ", "line 7"),
            (11, "max-head = 1", "use 256 to 65536"),
            (11, "pcp = 0", "pcp is no limit"),
            (11, "max-fields = 60", "max-fields stands in [serve] already"),
        ] {
            let mut lines: Vec<_> = TEXT.lines().collect();
            lines[line - 1] = with;
            let error = serve(&lines.join("\n"), &[]).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{with}: {error}");
            assert!(error.contains(&format!(": line {line}: ")), "{with}: {error}");
        }
        let error = serve("[serve]\ninterface = \"m0\"\nslaac = true\n", &[]).unwrap_err();
        assert!(error.contains("--www-root"), "{error}");
        let missing = ["tagwire", "serve", "--config", "/none/there"];
        let Err(CliError::Usage(line)) = parse(missing) else { panic!("there is none") };
        assert!(line.contains("/none/there cannot be read"), "{line}");
    }

    #[test]
    fn what_was_read_can_be_read_again() {
        let file = file(TEXT);
        let path = file.path().to_str().unwrap();
        let line = ["tagwire", "serve", "--config", path, "--max-head", "9000"];
        let Ok(Command::Serve(config)) = parse(line) else { panic!("it is good") };
        assert_eq!(read_again(&config).as_ref(), Ok(&*config));
        std::fs::write(path, TEXT.replace("30", "31").replace("8k", "4k")).unwrap();
        let again = read_again(&config).unwrap();
        let Limits { max_head, idle_timeout, .. } = again.limits;
        assert_eq!((max_head, idle_timeout.as_secs()), (9000, 31), "the command line goes first");
        std::fs::write(path, TEXT.replace("30", "0")).unwrap();
        assert!(read_again(&config).unwrap_err().contains("line 12: "));
    }

    #[test]
    fn check_reads_the_file_only() {
        let file = file(TEXT);
        let path = file.path().to_str().unwrap();
        assert!(matches!(parse(["tagwire", "check", path]), Ok(Command::Check { .. })));
    }
}
