//! `--config FILE`: the file's options become arguments before those that were given; its VLANs
//! are read by the same options.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, CommandFactory, FromArgMatches};
use tagwire_netstack::VlanStack;

use super::{Cli, CliError, VlanArgs, one_line};
use crate::access_log::Target;
use crate::config::parse_vlan;
use crate::file::{self, File, Given, Table};
use crate::limits::HEADING;
use crate::site::{self, SiteSettings};
use crate::vlan::{VlanConfig, ids};

/// An option by its long name, and the arguments that give it.
type AsArguments = (String, Vec<OsString>);

/// What a configuration file says.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) options: Vec<AsArguments>,
    pub(super) vlans: Vec<VlanConfig>,
    pub(super) sites: Vec<SiteSettings>,
    /// Line of the first VLAN.
    vlans_at: usize,
    site_lines: Vec<usize>,
    /// The access log, and its line.
    log: Option<(Target, usize)>,
    path: PathBuf,
}

impl Settings {
    /// The VLANs that are served, if the file says which; what else says so goes before it.
    pub(super) fn served(&self) -> Option<Vec<VlanStack>> {
        if !self.vlans.is_empty() {
            return Some(ids(&self.vlans));
        }
        let (_, arguments) = self.options.iter().find(|(name, _)| name == "vlan")?;
        let value = arguments.first()?.to_str()?.split_once('=')?.1;
        parse_vlan(value).ok().map(|vlan| vec![vlan])
    }

    /// Checks that the sites suit the VLANs that are served.
    ///
    /// # Errors
    /// One line that names the file, and the line of a site.
    pub(super) fn check_sites(&self, served: &[VlanStack]) -> Result<(), String> {
        if self.sites.is_empty() {
            return Ok(());
        }
        site::check_vlans(&self.sites, served).map_err(|(at, message)| {
            let line = at.and_then(|at| self.site_lines.get(at));
            let line = line.map_or_else(String::new, |line| format!("line {line}: "));
            format!("{}: {line}{message}", self.path.display())
        })
    }

    /// Checks that the access log can be written; only where it is asked: the command line may name
    /// another.
    ///
    /// # Errors
    /// One line that names the file and the line.
    pub(super) fn check_log(&self) -> Result<(), String> {
        let Some((target, line)) = &self.log else { return Ok(()) };
        target.check().map_err(|error| format!("{}: line {line}: {error}", self.path.display()))
    }
}

/// Reads a configuration file, and checks each of its options by itself, and its VLANs.
///
/// # Errors
/// One line that names the file and, for a mistake in it, the line.
pub(super) fn read(path: &Path) -> Result<Settings, String> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        format!("{} cannot be read: {error}; name another file with --config", path.display())
    })?;
    let settings = settings(&text).map_err(|message| format!("{}: {message}", path.display()))?;
    Ok(Settings { path: path.to_owned(), ..settings })
}

fn settings(text: &str) -> Result<Settings, String> {
    let File { serve, limits, vlans, sites, site_lines } =
        file::parse(text).map_err(|error| error.to_string())?;
    let cli = Cli::command();
    let command = without_environment(cli.find_subcommand("serve").cloned().unwrap_or(cli));
    let of_a_vlan = vlan_command();
    let mut options = Vec::new();
    let mut log = None;
    let serve = serve.into_iter().map(|given| (given, "option"));
    let limits = limits.into_iter().map(|given| (given, "limit"));
    for (Given { name, values, line }, kind) in serve.chain(limits) {
        let at_line = |message| format!("line {line}: {message}");
        // A file that names a file would have no end.
        let known = option(&command, &name).filter(|known| {
            name != "config" && (kind == "option" || known.get_help_heading() == Some(HEADING))
        });
        let known = known.ok_or_else(|| {
            at_line(format!("{name} is no {kind}; tagwire serve --help lists them"))
        })?;
        if !vlans.is_empty() && option(&of_a_vlan, &name).is_some() {
            return Err(at_line(format!(
                "{name} is of a VLAN, and there are [[vlan]] tables; move it to one of them"
            )));
        }
        let arguments = as_arguments(&command, known, &values).map_err(at_line)?;
        if name == "access-log" {
            log = values.concat().trim().parse().ok().map(|target| (target, line));
        }
        options.push((name, arguments));
    }
    let vlans_at = vlans.first().map_or(0, |table| table.line);
    let mut configs: Vec<VlanConfig> = Vec::new();
    for Table { options, line } in vlans {
        let config = vlan(&of_a_vlan, options, line)?;
        config.check_beside(&configs).map_err(|message| format!("line {line}: {message}"))?;
        configs.push(config);
    }
    let path = PathBuf::new();
    Ok(Settings { options, vlans: configs, sites, vlans_at, site_lines, log, path })
}

/// A VLAN by the options of its table, which begins at `line`.
fn vlan(command: &Command, options: Vec<Given>, line: usize) -> Result<VlanConfig, String> {
    const ID: &str = "id";
    if options.iter().all(|given| given.name != ID) {
        return Err(format!(
            "line {line}: id is missing; give the VLAN's, 123 say, or \"none\" for what has no tag"
        ));
    }
    let mut arguments = Vec::new();
    for Given { name, values, line } in options {
        let at_line = |message| format!("line {line}: {message}");
        let long = match &*name {
            ID => "vlan",
            // It has one name only.
            "vlan" => "",
            name => name,
        };
        let known = option(command, long).ok_or_else(|| {
            let all = command.get_arguments().filter_map(Arg::get_long).filter(|it| *it != "vlan");
            let all: Vec<_> = [ID].into_iter().chain(all).collect();
            at_line(format!("{name} is no option of a VLAN; those are {}", all.join(", ")))
        })?;
        arguments.extend(as_arguments(command, known, &values).map_err(at_line)?);
    }
    let matches = command.clone().try_get_matches_from(arguments);
    let parsed = matches.and_then(|matches| VlanArgs::from_arg_matches(&matches));
    let parsed = parsed.map_err(|error| one_line(&error)).and_then(VlanArgs::check);
    parsed.map_err(|message| format!("line {line}: {message}"))
}

/// The options of a VLAN, as a command of their own.
fn vlan_command() -> Command {
    without_environment(VlanArgs::augment_args(Command::new("vlan")))
}

/// A command that heeds its arguments only.
fn without_environment(command: Command) -> Command {
    command.no_binary_name(true).mut_args(|argument| argument.env(Resettable::Reset))
}

/// An option by its long name.
fn option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|argument| argument.get_long() == Some(name))
}

/// `arguments`, with the options of the file that they name, if they name one, in front of those
/// that were given: the options that the command line and the environment do not mention; and the
/// file's VLANs and sites.
pub(super) fn merge(arguments: Vec<OsString>) -> Result<(Vec<OsString>, Settings), CliError> {
    // What is wrong with them is said afterwards.
    let seen = Cli::command().ignore_errors(true).try_get_matches_from(&arguments);
    let seen = seen.ok().and_then(|matches| {
        ["serve", "doctor"].iter().find_map(|it| matches.subcommand_matches(it).cloned())
    });
    let path = seen.as_ref().and_then(|seen| seen.get_one::<PathBuf>("config").cloned());
    let (Some(seen), Some(path)) = (seen, path) else {
        return Ok((arguments, Settings::default()));
    };
    let mut settings = read(&path).map_err(CliError::Usage)?;
    let of_a_vlan = vlan_command();
    let mut names = of_a_vlan.get_arguments().filter_map(Arg::get_long);
    if !settings.vlans.is_empty()
        && let Some(name) = names.find(|name| is_given(&seen, name))
    {
        return Err(CliError::Usage(format!(
            "--{name} is given, and {} has VLANs of its own: line {}; say all of a VLAN there, or \
             nothing",
            path.display(),
            settings.vlans_at
        )));
    }
    let options = std::mem::take(&mut settings.options);
    let added = options.into_iter().filter(|(name, _)| !is_given(&seen, name));
    let added: Vec<OsString> = added.flat_map(|(_, arguments)| arguments).collect();
    // Behind the program's name and the command.
    let (head, tail) = arguments.split_at(2.min(arguments.len()));
    Ok(([head, &added, tail].concat(), settings))
}

/// What gives an option with values of the file on the command line.
///
/// # Errors
/// clap does not take them.
fn as_arguments(
    command: &Command,
    option: &Arg,
    values: &[String],
) -> Result<Vec<OsString>, String> {
    let name = option.get_long().unwrap_or_default();
    let arguments: Vec<OsString> = if option.get_action().takes_values() {
        values.iter().map(|value| format!("--{name}={value}").into()).collect()
    } else {
        match &*values.concat() {
            "true" => vec![format!("--{name}").into()],
            "false" => Vec::new(),
            _ => return Err(format!("{name} is neither on nor off; use true or false")),
        }
    };
    match command.clone().try_get_matches_from(&arguments) {
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

    use tagwire_netstack::Acd;
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
        let vlan = &config.vlans[0];
        assert_eq!((&*config.interface, config.port, vlan.addresses.len()), ("m0", 8080, 2));
        assert!(vlan.slaac && !config.fast_open);
        let Limits { max_head, max_fields, idle_timeout, .. } = config.limits;
        assert_eq!((max_head, max_fields, idle_timeout.as_secs()), (8192, 50, 30));
        let roots: Vec<_> =
            config.sites.iter().map(|site| site.www_root.to_str().unwrap()).collect();
        assert_eq!(roots, ["/a", "/b"]);

        let more = ["--port=81", "--address=10.0.2.5/24", "--www-root", "/c", "--max-head=9000"];
        let config = serve(TEXT, &more).unwrap();
        assert_eq!((config.port, config.vlans[0].addresses.len()), (81, 1));
        assert_eq!(config.limits.max_head, 9000);
        assert_eq!(config.sites[0].www_root.to_str(), Some("/c"));
        assert_eq!(config.sites.len(), 2);
    }

    #[test]
    fn what_is_usual_for_sites_is_said_once() {
        use crate::encoding::Coding::{Brotli, Gzip, Zstd};
        use crate::listing::ListingFormat::{Html, Json, Off};
        let text = "[serve]\ninterface = \"m0\"\nslaac = true\ncompress = \"br,gzip\"\n\
                    listing = \"html\"\nbuiltin-json = true\n\
                    [[site]]\nwww-root = \"/a\"\n[[site]]\nhosts = [\"b\"]\nwww-root = \"/b\"\n\
                    compress = \"off\"\ncompress-min-size = \"4k\"\nlisting = \"off\"\n\
                    builtin-json = false\n";
        let both = |more: &[&str]| {
            let config = serve(text, more).unwrap();
            let of = |site: &SiteSettings| {
                (site.compress.clone().unwrap(), site.compress_min_size.unwrap(), site.listing())
            };
            [of(&config.sites[0]), of(&config.sites[1])]
        };
        let off = ([].into(), 4096, Off);
        let built_in = serve(text, &[]).unwrap().sites;
        assert_eq!([built_in[0].builtin_json, built_in[1].builtin_json], [Some(true), Some(false)]);
        assert_eq!(both(&[]), [([Brotli, Gzip].into(), 1024, Html), off.clone()]);
        let more = ["--compress", "zstd", "--compress-min-size", "100", "--listing", "json"];
        assert_eq!(both(&more), [([Zstd].into(), 100, Json), off]);
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

    const VLANS: &str = "\
[serve]
interface = \"m0\"

[[vlan]]
id = 123
address = \"10.0.0.5/24\"
gateway = \"10.0.0.1\"
pcp = 5

[[vlan]]
id = \"100.200\"
address = [\"10.0.0.5/24\", \"fd00::5/64\"]
mtu = 1400
acd = \"strict\"

[[vlan]]
id = \"none\"
slaac = true

[[site]]
www-root = \"/a\"
";

    #[test]
    fn several_vlans() {
        let config = serve(VLANS, &[]).unwrap();
        let [first, second, third] = &config.vlans[..] else { panic!("three VLANs") };
        let texts = [first, second, third].map(|vlan| vlan.id.to_string());
        assert_eq!(texts, ["123", "100.200", "0"]);
        assert_eq!((first.pcp, second.pcp, first.gateways.len()), (5, 0, 1));
        assert_eq!((first.addresses.len(), second.addresses.len()), (1, 2));
        assert_eq!((first.mtu, second.mtu), (None, Some(1400)));
        assert_eq!((first.acd, second.acd), (Acd::Optimistic, Acd::Strict));
        assert_eq!((first.slaac, third.slaac), (false, true));
    }

    #[test]
    fn mistakes_in_vlans_name_file_and_line() {
        for (line, with, at, part) in [
            (5, "id = 5000", 5, "is no VLAN ID"),
            (5, "", 4, "id is missing"),
            (5, "vlan = 123", 4, "id is missing"),
            (8, "vlan = 123", 8, "vlan is no option of a VLAN; those are id, pcp, address"),
            (8, "port = 123", 8, "port is no option of a VLAN"),
            (8, "pcp = 8", 8, "use 0 to 7"),
            (6, "address = \"10.0.0.5\"", 6, "no prefix length"),
            (6, "", 4, "--address"),
            (7, "gateway = \"10.0.1.1\"", 4, "not in the network"),
            (11, "id = 123", 10, "VLAN 123 is there already"),
            (12, "address = [\"10.0.0.5/24\", \"10.0.0.5/16\"]", 10, "given twice"),
            (13, "mtu = 1000", 10, "give 1280 or more"),
            (18, "slaac = \"often\"", 18, "neither on nor off"),
            (2, "address = \"10.0.0.7/24\"", 2, "address is of a VLAN"),
            (2, "vlan = 7", 2, "move it to one of them"),
            (2, "mtu = 1400", 2, "mtu is of a VLAN"),
        ] {
            let mut lines: Vec<_> = VLANS.lines().collect();
            lines[line - 1] = with;
            let error = serve(&lines.join("\n"), &["--interface", "m0"]).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{with}: {error}");
            assert!(error.contains(&format!(": line {at}: ")), "{with}: {error}");
        }
        for given in [&["--vlan", "5"][..], &["--address=10.0.0.5/24"], &["--slaac"]] {
            let error = serve(VLANS, given).unwrap_err();
            let named = given[0].split('=').next().unwrap();
            assert!(error.contains(named) && error.contains(": line 4;"), "{error}");
        }
        let error = serve(VLANS, &["--memory-budget=16m", "--workers=64"]).unwrap_err();
        assert!(error.contains("64 workers in 3 VLANs; give 48m or more"), "{error}");
        let many: String =
            (1..=17).map(|id| format!("[[vlan]]\nid = {id}\nslaac = true\n")).collect();
        let error = serve(&format!("{many}[serve]\ninterface = \"m0\""), &[]).unwrap_err();
        assert!(error.contains("line 49: more than 16 VLANs"), "{error}");
    }

    #[test]
    fn sites_suit_the_vlans() {
        let kept = |vlans: &str| format!("vlans = [{vlans}]\nwww-root = \"/a\"");
        for (vlans, part) in [
            ("7", "line 20: VLAN 7 is not served; name one that is: 123, 100.200, 0"),
            ("123, \"none\"", "other VLANs than 100.200"),
        ] {
            let text = VLANS.replace("www-root = \"/a\"", &kept(vlans));
            let error = serve(&text, &[]).unwrap_err();
            assert!(error.contains(part), "{error}");
            let file = file(&text);
            let check = parse(["tagwire", "check", file.path().to_str().unwrap()]);
            assert!(matches!(check, Err(CliError::Usage(said)) if said.contains(part)));
        }
        // The only one, wherever that is said.
        let text = TEXT.replace("www-root = \"/a\"", &kept("123"));
        assert_eq!(serve(&text, &[]).unwrap().sites[0].vlans.len(), 1);
        let error = serve(&text, &["--vlan=5"]).unwrap_err();
        assert!(error.contains("line 14: VLAN 123 is not served; name one that is: 5"), "{error}");
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
